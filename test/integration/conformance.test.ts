// SPDX-License-Identifier: Apache-2.0
//
// The conformance suite: its books and reports, that its rules find what is wrong with a plugin that is wrong on purpose,
// and flatnet.

import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { deriveRequest, parseConf } from "../conformance/conf.ts";
import type { Settings } from "../conformance/context.ts";
import { parseOptions } from "../conformance/options.ts";
import { shrinkHostLocal } from "../conformance/pool.ts";
import { escapeText, junitXml, quoted } from "../conformance/report/junit.ts";
import { markdown } from "../conformance/report/markdown.ts";
import { outcomeLines, summaryLines } from "../conformance/report/text.ts";
import { transcript } from "../conformance/report/transcript.ts";
import { readResult } from "../conformance/result.ts";
import { GROUPS, type Group, mustSince, NotSupported, PASS, type Rule, RuleStop, whyNot } from "../conformance/rule.ts";
import { RULES } from "../conformance/rules/index.ts";
import { commandIn, Sandbox } from "../conformance/sandbox.ts";
import { difference, snapshotNetns } from "../conformance/snapshot.ts";
import { SPEC_VERSIONS, type SpecVersion } from "../conformance/spec.ts";
import { countOutcomes, listVersions, type Outcome, type Report, runRules } from "../conformance/suite.ts";
import { Cleanup, runToEnd, startDaemon } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { built } from "../helpers/plugin.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const PTP = "/usr/lib/cni/ptp";
const PTP_CONF = join(ROOT, "test/conformance/confs/ptp.json");

function outcome(more: Partial<Outcome>): Outcome {
  return {
    id: "add.example",
    group: "ADD",
    level: "MUST",
    section: "section 2",
    title: "ADD is an example",
    verdict: PASS,
    calls: [],
    seconds: 0.25,
    ...more,
  };
}

const CALL = {
  env: { PATH: "/bin", CNI_COMMAND: "ADD", CNI_PATH: `${ROOT}dist` },
  stdin: '{"name":"a"}',
  stdout: "<no & JSON>",
  stderr: "oh\u0007",
  status: 1,
  signal: null,
  killedFor: null,
} as const;

const FAIL = outcome({ verdict: { kind: "fail", problems: ['it is "wrong" | <so>'] }, calls: [CALL] });
const WARN = outcome({ ...FAIL, id: "add.warned", level: "SHOULD" });
const SKIP = outcome({ id: "add.skipped", verdict: { kind: "not supported", reason: "no pool" } });

function reportOf(...outcomes: Outcome[]): Report {
  return { plugin: "p", conf: "c.json", supportedVersions: ["1.0.0"], runs: [{ spec: "1.0.0", outcomes }] };
}

describe("reports", () => {
  test("a MUST that failed makes the verdict, a SHOULD does not", () => {
    expect(countOutcomes([outcome({}), FAIL, WARN, SKIP])).toEqual({
      passed: 1,
      failed: 1,
      warned: 1,
      notSupported: 1,
    });
    expect(summaryLines(reportOf(outcome({}), WARN)).at(-1)).toBe("p conforms: no requirement failed");
    expect(summaryLines(reportOf(outcome({}), FAIL)).at(-1)).toBe("p does not conform: 1 requirement failed");
    expect(summaryLines(reportOf(SKIP)).at(-1)).toBe("p was not tried: nothing was supported");
  });

  test("a failure is told with its section, what was sent and what came back", () => {
    const text = outcomeLines(FAIL).join("\n");
    expect(text).toContain("✗ MUST");
    for (const part of ['it is "wrong"', "section 2", "CNI_COMMAND=ADD", '{"name":"a"}', "exit status 1", "oh"]) {
      expect(text).toContain(part);
    }
    expect(text).not.toContain("PATH=/bin");
    expect(text).not.toContain("\u0007");
  });

  test("of many calls the last are shown, and of long texts the beginning", () => {
    const lines = transcript(Array.from({ length: 5 }, () => ({ ...CALL, stdout: "x".repeat(10_000) })));
    expect(lines[0]).toBe("(2 earlier calls left out)");
    expect(Math.max(...lines.map((line) => line.length))).toBeLessThan(1000);
  });

  test("JUnit counts a MUST as a failure, a SHOULD and what is not supported as skipped", () => {
    const xml = junitXml(reportOf(outcome({}), FAIL, WARN, SKIP));
    expect(xml).toContain('tests="4" failures="1" errors="0" skipped="2"');
    expect(xml).toContain("it is &quot;wrong&quot; | &lt;so&gt;");
    expect(xml).toContain("&lt;no &amp; JSON&gt;");
  });

  test("any text in XML has no character and no mark-up that XML can't have there, and loses nothing else", () => {
    const forbidden = /[^\t\n\r\u{20}-\u{d7ff}\u{e000}-\u{fffd}\u{10000}-\u{10ffff}]/u;
    const decode = (text: string) =>
      text.replace(/&(amp|lt|gt|quot|#10|#13|#9);/g, (_, name) => {
        return { amp: "&", lt: "<", gt: ">", quot: '"', "#10": "\n", "#13": "\r", "#9": "\t" }[
          name as string
        ] as string;
      });
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const kept = [...text].map((char) => (forbidden.test(char) ? "\ufffd" : char)).join("");
        for (const escaped of [escapeText(text), quoted(text).slice(1, -1)]) {
          expect(escaped).not.toMatch(forbidden);
          expect(escaped).not.toMatch(/[<>]|&(?!(amp|lt|gt|quot|#\d+);)/);
          expect(decode(escaped)).toBe(kept);
        }
        expect(quoted(text).slice(1, -1)).not.toMatch(/["\n\r\t]/);
      }),
    );
  });

  test("Markdown has a row for each rule, a column for each version, and no path of this machine", () => {
    const runs = [
      { spec: "0.4.0", outcomes: [WARN, SKIP] },
      { spec: "1.0.0", outcomes: [{ ...WARN, verdict: PASS }, SKIP] },
    ] as const;
    const text = markdown({ ...reportOf(), runs }, "npm run conformance", ROOT.replace(/\/$/, ""));
    expect(text).toContain("| add.warned | SHOULD | ADD is an example | ! | ✓ |");
    expect(text).toContain("| add.skipped | MUST | ADD is an example | – | – |");
    expect(text).toContain("Failed for 0.4.0; in the last of them:");
    expect(text).toContain("CNI_PATH=dist");
    expect(text).not.toContain(ROOT);
  });
});

describe("options and configurations", () => {
  test.each([
    ["--plugin is missing", []],
    ["--conf is missing", ["--plugin", "p"]],
    ["--spec 2.0.0", ["--plugin", "p", "--conf", "c", "--spec", "2.0.0"]],
    ["--kind odd", ["--plugin", "p", "--conf", "c", "--kind", "odd"]],
    ["--pool-size 0", ["--plugin", "p", "--conf", "c", "--pool-size", "0"]],
    ["--timeout soon", ["--plugin", "p", "--conf", "c", "--timeout", "soon"]],
    ["--oops", ["--oops"]],
  ])("wrong options are refused: %s", (message, argv) => {
    expect(() => parseOptions(argv)).toThrow(message);
  });

  test("all versions are meant by one word", () => {
    const command = parseOptions(["--plugin", "p", "--conf", "c", "--spec", "all"]);
    expect(command.kind === "run" && command.options.specs?.length).toBe(7);
  });

  test("a list of one plugin gives the request that a runtime derives", () => {
    const plugin = { type: "bridge", capabilities: { mac: true }, dataDir: "@DIR@/x" };
    const conf = parseConf(JSON.stringify({ cniVersion: "0.4.0", name: "n", plugins: [plugin] }), "/run/d");
    expect(deriveRequest(conf, "1.1.0")).toEqual({
      cniVersion: "1.1.0",
      name: "n",
      type: "bridge",
      dataDir: "/run/d/x",
    });
  });

  test.each([
    ["it is not JSON", "{"],
    ["it is not a JSON object", "[]"],
    ["it has no network name", '{"type":"a"}'],
    ["the plugin has no type", '{"name":"a"}'],
    ["a list of one object", '{"name":"a","plugins":[{"type":"a"},{"type":"b"}]}'],
  ])("a configuration is refused because %s", (message, text) => {
    expect(() => parseConf(text, "/run/d")).toThrow(message);
  });

  test("host-local gets four addresses of each subnet and a store of its own", () => {
    const conf = (ipam: object) => ({ name: "n", fields: { type: "ptp", ipam: { type: "host-local", ...ipam } } });
    expect(shrinkHostLocal(conf({ subnet: "10.1.2.0/24", rangeEnd: "10.1.2.9" }), "/d")).toMatchObject({
      ipam: { subnet: "10.1.2.0/24", rangeStart: "10.1.2.10", rangeEnd: "10.1.2.13", dataDir: "/d" },
    });
    expect(shrinkHostLocal(conf({ ranges: [[{ subnet: "fd00::/64" }]] }), "/d")).toMatchObject({
      ipam: { ranges: [[{ subnet: "fd00::/64", rangeStart: "fd00::a", rangeEnd: "fd00::d" }]] },
    });
    expect(shrinkHostLocal({ name: "n", fields: { type: "ptp", ipam: { type: "static" } } }, "/d")).toBeUndefined();
  });
});

describe("results", () => {
  test("legacy and modern shapes say the same", () => {
    const legacy = readResult(
      { ip4: { ip: "10.1.0.2/24", gateway: "10.1.0.1", routes: [{ dst: "0.0.0.0/0" }] } },
      "0.2.0",
    );
    const modern = readResult(
      { ips: [{ address: "10.1.0.2/24", gateway: "10.1.0.1" }], routes: [{ dst: "0.0.0.0/0" }] },
      "1.0.0",
    );
    expect([legacy.addresses, legacy.routes, legacy.problems]).toEqual([modern.addresses, modern.routes, []]);
    expect(modern.addresses).toEqual([
      { family: 4, address: "10.1.0.2", length: 24, gateway: "10.1.0.1", interface: undefined },
    ]);
  });

  test.each([
    ["ips is {}", { ips: {} }],
    ['ips[0].address is "10.1.0.2"', { ips: [{ address: "10.1.0.2" }] }],
    ['ips[0].address is "10.1.0.2/33"', { ips: [{ address: "10.1.0.2/33" }] }],
    ["ips[0].interface is -1", { ips: [{ address: "10.1.0.2/24", interface: -1 }] }],
    ["the gateway beside ips[0].address", { ips: [{ address: "10.1.0.2/24", gateway: "gw" }] }],
    ["interfaces[0].name is missing", { interfaces: [{}] }],
    ["interfaces[0].mtu is -1", { interfaces: [{ name: "a", mtu: -1 }] }],
    ['routes[0].dst is "default"', { routes: [{ dst: "default" }] }],
    ['routes[0].table is "main"', { routes: [{ dst: "::/0", table: "main" }] }],
    ['dns.search is "a"', { dns: { search: "a" } }],
  ])("what is of the wrong type is named: %s", (problem, document) => {
    expect(readResult(document, "1.1.0").problems.join()).toContain(problem);
  });
});

describe("rules", () => {
  const rule = (more: Partial<Rule>): Rule => ({
    id: "add.example",
    group: "ADD",
    level: "MUST",
    section: "section 2",
    title: "ADD is an example",
    run: async () => PASS,
    ...more,
  });

  test("every rule has an ID of its own and a section", () => {
    expect(new Set(RULES.map(({ id }) => id)).size).toBe(RULES.length);
    for (const { id, section, title } of RULES) {
      expect(id).toMatch(/^[a-z]+\.[a-z0-9.-]+$/);
      expect(section).not.toBe("");
      expect(title).toMatch(/^[A-Z0-9]/);
    }
  });

  test("a rule applies to its versions and kinds", () => {
    const some = rule({ since: "0.4.0", until: "1.0.0", kinds: ["interface"] });
    expect(whyNot(some, "0.3.1", "interface")).toBe("applies from 0.4.0");
    expect(whyNot(some, "0.4.0", "interface")).toBeUndefined();
    expect(whyNot(some, "1.0.0", "interface")).toBeUndefined();
    expect(whyNot(some, "1.1.0", "interface")).toBe("applies up to 1.0.0");
    expect(whyNot(some, "1.0.0", "ipam")).toBe("applies to interface plugins");
    expect([mustSince("0.4.0")("0.3.1"), mustSince("0.4.0")("1.1.0")]).toEqual(["SHOULD", "MUST"]);
  });

  test.runIf(canUseKernel())(
    "what a rule returns or throws becomes its verdict, and none stops the others",
    async () => {
      const { settings, sandbox } = await hostFor("/bin/true");
      const rules = [
        rule({ id: "a.pass" }),
        rule({ id: "a.fail", run: async () => ({ kind: "fail", problems: [`in ${sandbox.directory}/x`] }) }),
        rule({ id: "a.stop", run: () => Promise.reject(new RuleStop("no ADD")) }),
        rule({ id: "a.cannot", run: () => Promise.reject(new NotSupported("no pool")) }),
        rule({ id: "a.bug", run: () => Promise.reject(new TypeError("oops")) }),
        rule({ id: "a.old", until: "0.4.0" }),
        rule({ id: "a.needs", needs: ["delegate"] }),
        rule({ id: "a.last" }),
      ];
      const conf = { ...settings.conf, fields: { type: "ptp" } };
      const { outcomes } = await runRules(rules, "1.0.0", { settings: { ...settings, conf }, sandbox });
      expect(outcomes.map(({ verdict }) => verdict)).toMatchObject([
        { kind: "pass" },
        { kind: "fail", problems: ["in @DIR@/x"] },
        { kind: "fail", problems: ["no ADD"] },
        { kind: "not supported", reason: "no pool" },
        { kind: "fail", problems: [expect.stringContaining("oops")] },
        { kind: "not supported", reason: "applies up to 0.4.0" },
        { kind: "not supported", reason: "the configuration has no ipam" },
        { kind: "pass" },
      ]);
    },
  );

  test.runIf(canUseKernel())("a version that the plugin does not list is not tried", async () => {
    const { settings, sandbox } = await hostFor("/bin/false", { supportedVersions: ["0.4.0"] });
    const { outcomes } = await runRules(RULES, "1.1.0", { settings, sandbox });
    expect(new Set(outcomes.map(({ verdict }) => JSON.stringify(verdict)))).toEqual(
      new Set([JSON.stringify({ kind: "not supported", reason: "the plugin does not list 1.1.0" })]),
    );
  });
});

/** A host of its own for the rest of the test, with ptp's configuration for some program. */
async function hostFor(
  plugin: string,
  more: Partial<Settings> = {},
): Promise<{ settings: Settings; sandbox: Sandbox }> {
  const sandbox = await Sandbox.create();
  onTestFinished(() => sandbox.remove());
  const settings: Settings = {
    plugin,
    kind: "interface",
    conf: parseConf(readFileSync(PTP_CONF, "utf8"), sandbox.directory),
    cniPath: "/usr/lib/cni",
    watch: [],
    dataDirs: [],
    timeoutMs: 30_000,
    supportedVersions: [],
    ...more,
  };
  return { settings, sandbox };
}

/** IDs of the rules that failed among some, tried on a program. */
async function failuresOf(
  plugin: string,
  ids: readonly string[],
  more: Partial<Settings> = {},
  spec = "1.0.0" as const,
) {
  const { settings, sandbox } = await hostFor(plugin, more);
  const rules = RULES.filter(({ id }) => ids.includes(id));
  expect(rules.map(({ id }) => id).sort()).toEqual([...ids].sort());
  const { outcomes } = await runRules(rules, spec, { settings, sandbox });
  return outcomes.filter(({ verdict }) => verdict.kind === "fail").map(({ id }) => id);
}

/** A shell script for the rest of the test, which has the real plugin as $PTP and its own directory as $OWN. */
function script(body: string): string {
  const directory = mkdtempSync(join(tmpdir(), "conformance-test-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const file = join(directory, "plugin");
  writeFileSync(file, `#!/bin/sh\nPATH=$PATH:/usr/sbin:/usr/bin:/sbin:/bin\nPTP=${PTP}\nOWN=${directory}\n${body}\n`);
  chmodSync(file, 0o755);
  return file;
}

describe.runIf(canUseKernel())("snapshots", () => {
  test("show links, addresses, routes, rules, neighbours and nftables rules that came, and nothing once they are gone", async () => {
    const { sandbox } = await hostFor(PTP);
    const { host } = sandbox;
    const before = await snapshotNetns(host);
    await commandIn(host, "ip", "link", "add", "t0", "type", "veth", "peer", "name", "t1");
    await commandIn(host, "ip", "address", "add", "192.0.2.1/24", "dev", "t0");
    await commandIn(host, "ip", "link", "set", "t0", "up");
    await commandIn(host, "ip", "route", "add", "blackhole", "198.51.100.0/24", "table", "77");
    await commandIn(host, "ip", "rule", "add", "from", "198.51.100.1", "table", "77");
    await commandIn(host, "ip", "neighbour", "add", "192.0.2.9", "lladdr", "02:00:00:00:00:09", "dev", "t0");
    await commandIn(host, "nft", "add", "table", "ip", "conformance");
    const lines = difference(before, await snapshotNetns(host), "here");
    for (const part of ["link t0", "192.0.2.1/24", "dst=198.51.100.0/24", "rule IPv4", "neighbour", "nftables"]) {
      expect(lines.join("\n")).toContain(part);
    }
    await commandIn(host, "ip", "link", "delete", "t0");
    await commandIn(host, "ip", "route", "flush", "table", "77");
    await commandIn(host, "ip", "rule", "delete", "table", "77");
    await commandIn(host, "nft", "delete", "table", "ip", "conformance");
    expect(difference(before, await snapshotNetns(host), "here")).toEqual([]);
  });
});

/** What is wrong with a plugin that is else ptp, and the rules that must find it. */
const BROKEN: Record<string, { body: string; finds: readonly string[] }> = {
  "prints a line before its result": { body: 'echo hello; exec "$PTP"', finds: ["add.success", "version.answer"] },
  "never ends for VERSION": {
    body: 'if [ "$CNI_COMMAND" = VERSION ]; then sleep 60; fi; exec "$PTP"',
    finds: ["version.answer"],
  },
  "prints without end": { body: 'if [ "$CNI_COMMAND" = ADD ]; then yes; fi; exec "$PTP"', finds: ["add.success"] },
  "answers every error with exit status 0": {
    body: '"$PTP" || exit 0',
    finds: ["errors.unknown-command", "stdin.no-json"],
  },
  "has its errors on stderr": {
    body: 'out=$("$PTP") && { printf "%s" "$out"; exit 0; }; echo "$out" >&2; exit 1',
    finds: ["errors.unknown-command.code", "stdin.no-json.code"],
  },
  "crashes on what is no object": {
    body: 'in=$(cat); case $in in "{"*) ;; *) kill -SEGV $$ ;; esac; printf "%s" "$in" | "$PTP"',
    finds: ["stdin.no-json", "stdin.array", "stdin.empty"],
  },
  "has another version in its result": {
    body: '"$PTP" | sed \'s/"cniVersion": *"1.0.0"/"cniVersion":"0.4.0"/\'',
    finds: ["result.version"],
  },
  "has another MAC address in its result": {
    body: '"$PTP" | sed \'s/"mac": *"..:..:/"mac":"00:00:/\'',
    finds: ["result.interfaces-real"],
  },
  "has another address in its result": {
    body: '"$PTP" | sed \'s/"address": *"10.244.7/"address":"10.244.9/\'',
    finds: ["result.addresses-real", "result.addresses-complete"],
  },
  "has a route in its result that it did not make": {
    body: '"$PTP" | sed \'s/"dst": *"0.0.0.0.0"/"dst":"198.51.100.0\\/24"/\'',
    finds: ["result.routes-real"],
  },
  "has another sandbox in its result": {
    body: '"$PTP" | sed \'s/"sandbox": *"[^"]*"/"sandbox":"\\/run\\/netns\\/other"/\'',
    finds: ["result.sandbox"],
  },
  "names an interface that is not in its list": {
    body: '"$PTP" | sed \'s/"interface": *1/"interface":7/\'',
    finds: ["result.index"],
  },
  "takes a foreign interface away": {
    body: 'if [ "$CNI_COMMAND" = ADD ]; then nsenter --net="$CNI_NETNS" ip link delete "$CNI_IFNAME" 2>/dev/null; fi; exec "$PTP"',
    finds: ["add.exists"],
  },
  "does nothing for DEL": {
    body: 'if [ "$CNI_COMMAND" = DEL ]; then exit 0; fi; exec "$PTP"',
    finds: ["del.success", "leaks.add-del", "pool.del-frees", "concurrency.leaves-nothing", "idempotency.add-twice"],
  },
  "fails a second DEL": {
    body: 'if [ "$CNI_COMMAND" = DEL ]; then mkdir "$OWN/$CNI_CONTAINERID" || exit 1; fi; exec "$PTP"',
    finds: ["del.repeated"],
  },
  "fails DEL without a namespace": {
    body: 'if [ "$CNI_COMMAND" = DEL ] && [ ! -e "$CNI_NETNS" ]; then exit 1; fi; exec "$PTP"',
    finds: ["del.empty-netns", "del.no-netns", "del.vanished-netns"],
  },
  "keeps the address of a namespace that is gone": {
    body: 'if [ "$CNI_COMMAND" = DEL ] && [ ! -e "$CNI_NETNS" ]; then exit 0; fi; exec "$PTP"',
    finds: ["pool.vanished-frees", "leaks.vanished-netns"],
  },
  "deletes all of the host's pods at once": {
    body: 'if [ "$CNI_COMMAND" = DEL ]; then for l in $(ip -o link show type veth | cut -d: -f2 | cut -d@ -f1); do ip link delete "$l"; done; fi; exec "$PTP"',
    finds: ["del.only-its-own", "leaks.bystander"],
  },
  "prints something for DEL and CHECK": {
    body: 'case $CNI_COMMAND in DEL | CHECK) "$PTP" && echo "{}" ;; *) exec "$PTP" ;; esac',
    finds: ["del.silent", "check.silent"],
  },
  "leaves a route on the host": {
    body: 'if [ "$CNI_COMMAND" = DEL ]; then ip route add blackhole 198.51.100.7 metric $$; fi; exec "$PTP"',
    finds: ["leaks.add-del", "leaks.vanished-netns", "del.unknown"],
  },
  "leaves a table of nftables": {
    body: 'if [ "$CNI_COMMAND" = ADD ]; then nft add table ip "t$$"; fi; exec "$PTP"',
    finds: ["leaks.add-del", "errors.add-without-ifname"],
  },
  "leaves a file": {
    body: 'mkdir -p "$OWN/state"; if [ "$CNI_COMMAND" = ADD ]; then : >"$OWN/state/$$"; fi; exec "$PTP"',
    finds: ["leaks.add-del"],
  },
  "finds everything well for CHECK": {
    body: 'if [ "$CNI_COMMAND" = CHECK ]; then exit 0; fi; exec "$PTP"',
    finds: ["check.link", "check.address", "check.route", "check.after-del", "delegation.check"],
  },
  "finds fault with what others add": {
    body: 'if [ "$CNI_COMMAND" = CHECK ] && nsenter --net="$CNI_NETNS" ip link show later0 2>/dev/null >&2; then exit 1; fi; exec "$PTP"',
    finds: ["check.later-changes"],
  },
  "gives its delegate no CNI_PATH": {
    body: 'if [ "$CNI_COMMAND" = VERSION ]; then exec "$PTP"; fi; CNI_PATH=/usr/lib/cni exec "$PTP"',
    finds: ["delegation.add"],
  },
  "keeps its delegate's words to itself": { body: 'exec "$PTP" 2>/dev/null', finds: ["delegation.stderr"] },
};

describe.runIf(canUseKernel())("a plugin that", () => {
  test.each(Object.entries(BROKEN))("%s is found out", async (_name, { body, finds }) => {
    const file = script(body);
    const failed = await failuresOf(file, finds, { timeoutMs: 5_000, watch: [join(file, "..", "state")] });
    expect(failed.sort()).toEqual([...finds].sort());
  });

  test("is ptp itself passes the same rules", async () => {
    const ids = [...new Set(Object.values(BROKEN).flatMap(({ finds }) => finds))];
    expect(await failuresOf(PTP, ids)).toEqual([]);
  });

  test("gives everyone the same address is found out", async () => {
    const { conf } = (await hostFor(PTP)).settings;
    const ipam = { type: "static", addresses: [{ address: "10.244.7.2/24", gateway: "10.244.7.1" }] };
    const settings = { conf: { ...conf, fields: { ...conf.fields, ipam } }, timeoutMs: 30_000 };
    expect(await failuresOf(PTP, ["concurrency.distinct"], settings)).toEqual(["concurrency.distinct"]);
  });
});

describe.runIf(canUseKernel())("an IPAM plugin that", () => {
  const HOST_LOCAL = "/usr/lib/cni/host-local";
  const EACH = 'in=$(cat); dir=$(echo "$in" | sed \'s/.*"dataDir":"\\([^"]*\\)".*/\\1/\')';
  const more = async (): Promise<Partial<Settings>> => {
    const text = readFileSync(join(ROOT, "test/conformance/confs/host-local.json"), "utf8");
    const { sandbox } = await hostFor(HOST_LOCAL);
    return { kind: "ipam", conf: parseConf(text, sandbox.directory) };
  };

  test.each([
    [
      "frees what begins with a container's ID",
      `${EACH}; grep -ls "^$CNI_CONTAINERID" "$dir"/*/* | xargs -r rm; exit 0`,
      ["del.prefix-of-id"],
    ],
    ["frees everything for a DEL", `${EACH}; rm -rf "$dir"; exit 0`, ["del.only-its-own", "del.prefix-of-id"]],
    ["frees nothing for a DEL", "exit 0", ["pool.del-frees", "check.after-del"]],
  ])("%s is found out", async (_name, del, finds) => {
    const file = script(`if [ "$CNI_COMMAND" = DEL ]; then ${del}; fi; exec ${HOST_LOCAL}`);
    expect((await failuresOf(file, finds, await more())).sort()).toEqual([...finds].sort());
  });

  test("is host-local itself passes the same rules", async () => {
    const ids = ["del.prefix-of-id", "del.only-its-own", "pool.del-frees", "check.after-del"];
    expect(await failuresOf(HOST_LOCAL, ids, await more())).toEqual([]);
  });
});

/** ptp as a plugin of 1.1.0: the version is changed on the way in and out. GC is what is tried. */
function withGc(gc: string): string {
  return script(`
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.0.0","1.1.0"]}'; exit 0 ;;
GC) in=$(cat); dir=$(echo "$in" | sed 's/.*"dataDir":"\\([^"]*\\)".*/\\1/'); ${gc} ;;
*) out=$(sed 's/"cniVersion":"1.1.0"/"cniVersion":"1.0.0"/g' | "$PTP"); status=$?
   printf '%s' "$out" | sed 's/"cniVersion": *"1.0.0"/"cniVersion":"1.1.0"/'; exit $status ;;
esac`);
}

describe.runIf(canUseKernel())("a GC that", () => {
  test.each([
    ["does nothing", "exit 0", ["gc.frees-stale", "gc.leaves-nothing", "gc.no-key", "gc.bad-list"]],
    ["frees everything", 'rm -rf "$dir"', ["gc.keeps-valid", "gc.older-key"]],
    ["always fails", "exit 1", ["gc.keeps-valid", "gc.empty-list"]],
    ["prints something", 'echo "{}"', ["gc.silent"]],
  ])("%s is found out", async (_name, gc, finds) => {
    const more = { supportedVersions: ["1.0.0", "1.1.0"] };
    const { settings, sandbox } = await hostFor(withGc(gc), more);
    const rules = RULES.filter(({ id }) => finds.includes(id));
    const { outcomes } = await runRules(rules, "1.1.0", { settings, sandbox });
    expect(outcomes.map(({ id, verdict }) => [id, verdict.kind])).toEqual(rules.map(({ id }) => [id, "fail"]));
  });
});

describe.runIf(canUseKernel())("the program", () => {
  const conformance = (...args: string[]) =>
    runToEnd([join(ROOT, "scripts/node"), join(ROOT, "test/conformance/main.ts"), ...args]);

  test("writes its reports and exits with 0 when no MUST failed, with 1 when one did, with 2 when it can't try", async () => {
    const directory = mkdtempSync(join(tmpdir(), "conformance-test-"));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    const file = (name: string) => join(directory, name);
    const reports = ["--junit", file("r.xml"), "--json", file("r.json"), "--markdown", file("r.md")];
    const good = await conformance("--plugin", PTP, "--conf", PTP_CONF, "--rule", "version.", ...reports);
    expect([good.status, good.stderr]).toEqual([0, ""]);
    expect(good.stdout).toContain("conforms: no requirement failed");
    expect(readFileSync(file("r.xml"), "utf8")).toContain("</testsuites>");
    expect(JSON.parse(readFileSync(file("r.json"), "utf8")).runs[0]).toMatchObject({
      spec: "1.0.0",
      counts: { failed: 0 },
    });
    expect(readFileSync(file("r.md"), "utf8")).toContain("| version.answer | MUST |");

    const bad = await conformance("--plugin", "/bin/false", "--conf", PTP_CONF, "--rule", "version.answer");
    expect([bad.status, bad.stderr]).toEqual([1, ""]);
    const wrong = await conformance("--plugin", "/nowhere", "--conf", PTP_CONF);
    expect([wrong.status, wrong.stdout]).toEqual([2, ""]);
    expect(wrong.stderr).toContain("--plugin /nowhere is not a program");
    const nowhere = await conformance("--plugin", PTP, "--conf", PTP_CONF, "--netns", "conformance-nowhere");
    expect(nowhere.status).toBe(2);
    expect(nowhere.stderr).toContain("conformance-nowhere");
  });

  test("removes all it made when it is interrupted", async () => {
    const directory = mkdtempSync(join(tmpdir(), "conformance-test-"));
    onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
    const file = script('exec "$PTP"');
    const daemon = await startDaemon({
      argv: [join(ROOT, "scripts/node"), join(ROOT, "test/conformance/main.ts"), "--plugin", file, "--conf", PTP_CONF],
      ready: (output) => output.includes("CNI 1.0.0"),
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", TMPDIR: directory },
    });
    expect(await daemon.stop("SIGINT")).toBe(2);
    expect(daemon.output()).toContain("interrupted");
    expect(readdirSync(directory)).toEqual([]);
  });

  test("lists its rules and helps without root or plugin", async () => {
    expect((await conformance("--list")).stdout.split("\n").length).toBeGreaterThan(RULES.length);
    expect((await conformance("--help")).stdout).toContain("--plugin PATH");
  });
});

/** Room for the 32 containers that are added at once, and hardly more: all of it is taken again and again. */
const SMALL = ["10.77.9.0/27", "10.77.9.32/29"];
const SMALL_SIZE = 30 + 6;
/** The network has a gateway in each. */
const SMALL_IPAM_SIZE = SMALL_SIZE - SMALL.length;

/** What may be otherwise for another version of the spec. */
const OF_VERSIONS: readonly Group[] = ["VERSION", "ADD", "ADD result", "DEL", "CHECK", "GC", "STATUS", "errors"];

/** What has to do with addresses and what they leave. */
const OF_FAMILIES: readonly Group[] = ["ADD", "ADD result", "DEL", "CHECK", "GC", "idempotency", "leaks"];

describe.runIf(canUseKernel()).each([
  {
    plugin: "flatnet",
    subnets: "small IPv4 subnets",
    podCidrs: SMALL,
    poolSize: SMALL_SIZE,
    newest: GROUPS,
    earlier: OF_VERSIONS,
  },
  {
    plugin: "flatnet",
    subnets: "subnets of both families",
    podCidrs: ["10.77.10.0/24", "fd00:77:10::/64"],
    poolSize: undefined,
    newest: OF_FAMILIES,
    earlier: ["ADD result"] as const,
  },
  {
    plugin: "flatnet-ipam",
    subnets: "small IPv4 subnets",
    podCidrs: SMALL,
    poolSize: SMALL_IPAM_SIZE,
    newest: GROUPS,
    earlier: ["VERSION", "ADD result", "CHECK", "GC", "STATUS"] as const,
  },
])("$plugin with $subnets", ({ plugin, podCidrs, poolSize, newest, earlier }) => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  let listed: readonly string[];

  beforeAll(async () => {
    // The suite takes things away, for CHECK to find.
    node = await createNode("conformance", cleanup, { podCidrs, flags: ["--repair", "false"] });
    await node.start();
    const sandbox = await Sandbox.create(node.netns.path);
    cleanup.add(() => sandbox.remove());
    listed = await listVersions(settingsIn(sandbox), sandbox);
  });
  afterAll(() => cleanup.run());

  function settingsIn(sandbox: Sandbox, supportedVersions: readonly string[] = []): Settings {
    const { socket, journalDir } = node;
    const ipam = { type: "bridge", ipam: { type: plugin, socket, journalDir } };
    return {
      plugin: built(plugin),
      kind: plugin === "flatnet" ? "interface" : "ipam",
      conf: parseConf(node.conf(plugin === "flatnet" ? {} : ipam), sandbox.directory),
      cniPath: "/usr/lib/cni",
      watch: [node.journalDir],
      dataDirs: [],
      poolSize,
      timeoutMs: 30_000,
      supportedVersions,
    };
  }

  async function assertConforms(spec: SpecVersion, groups: readonly Group[]): Promise<void> {
    const sandbox = await Sandbox.create(node.netns.path);
    onTestFinished(() => sandbox.remove());
    const rules = RULES.filter(({ group }) => groups.includes(group));
    const { outcomes } = await runRules(rules, spec, { settings: settingsIn(sandbox, listed), sandbox });
    const failed = outcomes.filter(({ verdict, level }) => verdict.kind === "fail" && level === "MUST");
    expect(failed.flatMap(outcomeLines).join("\n")).toBe("");
    expect(countOutcomes(outcomes).passed).toBeGreaterThan(0);
  }

  test("meets every requirement of the newest version", () => assertConforms("1.1.0", newest), 600_000);

  test("meets the requirements of each earlier version that it lists", { timeout: 600_000 }, async () => {
    const versions = SPEC_VERSIONS.filter((version) => version !== "1.1.0" && listed.includes(version));
    expect(versions).toContain("0.4.0");
    for (const spec of versions) await assertConforms(spec, earlier);
  });
});
