// SPDX-License-Identifier: Apache-2.0
//
// The lab with the built programs: what it says of a flat network, of networks that were broken on purpose, and what is
// left of it afterwards.

import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, describe, expect, test } from "vitest";
import { listLeftovers } from "../../src/lab/leftovers.ts";
import { labDir, lockLab, nodePaths, readState, routerPaths } from "../../src/lab/state.ts";
import { listNamespaces, sweep } from "../../src/lab/sweep.ts";
import { Cleanup, type Finished, run, runToEnd, startDaemon, waitFor } from "../helpers/daemon.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { built } from "../helpers/plugin.ts";

/** What of `--json` these tests look at. */
interface Report {
  readonly nodes: { name: string; pods: { name: string; addresses: string[]; addMs?: number }[] }[];
  readonly add: { count: number; medianMs: number; maxMs: number } | null;
  readonly proof: {
    readonly cells: number;
    readonly failed: number;
    readonly failures: { requirement: string; from: string; to: string; family: string; protocol: string }[];
  };
  readonly unclean: string[];
  readonly verdict: { flat: boolean; text: string };
}

const NO_NAT = "no NAT: the receiver sees the sender's own address";
const NOT_REDIRECTED = "no NAT: the packet reaches the address it was sent to";

const cleanup = new Cleanup();

/** A name that no other lab has; the lab is removed after the test, whatever state it is in. */
function uniqueName(): string {
  const name = `t-${randomBytes(3).toString("hex")}`;
  cleanup.add(() => sweep(name));
  return name;
}

function lab(...args: string[]): Promise<Finished> {
  return runToEnd([built("flatnetctl"), "lab", ...args], { timeoutMs: 100_000 });
}

function reportOf(finished: Finished): Report {
  try {
    return JSON.parse(finished.stdout) as Report;
  } catch (cause) {
    throw new Error(`the lab printed no JSON (status ${finished.status}): ${finished.stderr}`, { cause });
  }
}

/** What there is of the lab outside of its own words: namespaces, files, and processes that have its name in their words. */
async function tracesOf(name: string): Promise<string[]> {
  const processes = await run(["ps", "-eo", "pid=,args="]);
  const folder = labDir(name);
  return [
    ...(await listNamespaces(name)),
    ...(existsSync(folder) ? [folder] : []),
    ...processes.split("\n").filter((line) => line.includes(`flatnet-${name}-`) || line.includes(`${folder}/`)),
  ];
}

async function daemonPid(name: string, node: string): Promise<number> {
  const pids = (await run(["ip", "netns", "pids", `flatnet-${name}-${node}`])).trim().split("\n").map(Number);
  expect(pids).toHaveLength(1);
  return pids[0] as number;
}

/** A lab that is up: two nodes with two pods each, or other options. */
async function keepLab(...options: string[]): Promise<string> {
  const name = uniqueName();
  const args = options.length > 0 ? options : ["--nodes", "2", "--pods", "2"];
  const report = reportOf(await lab("--keep", "--json", "--name", name, ...args));
  expect(report.verdict).toMatchObject({ flat: true });
  return name;
}

/** Loads nftables rules into one of the lab's namespaces. */
function nft(namespace: string, rules: string): Promise<string> {
  return run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], { input: rules });
}

describe.runIf(canUseKernel())("the lab", () => {
  afterEach(() => cleanup.run());

  test("of three nodes with four pods each is flat in both families and leaves nothing behind", async () => {
    const name = uniqueName();
    const finished = await lab("--nodes", "3", "--pods", "4", "--family", "dual", "--json", "--name", name);
    expect(finished).toMatchObject({ status: 0, stderr: "" });
    const report = reportOf(finished);
    expect(report.verdict).toEqual({
      flat: true,
      text: expect.stringMatching(/^FLAT: 12 pods on 3 nodes, 840 cells /),
    });
    expect(report.proof).toMatchObject({ cells: 840, failed: 0, failures: [] });
    expect(report.unclean).toEqual([]);
    expect(report.add?.count).toBe(12);
    const pods = report.nodes.flatMap((node) => node.pods);
    expect(pods.filter((pod) => pod.addresses.length === 2 && (pod.addMs ?? 0) > 0)).toHaveLength(12);
    expect(await tracesOf(name)).toEqual([]);
  });

  test.each([
    ["v4", "IPv4", /^10\.244\.1\./],
    ["v6", "IPv6", /^fd00:10:244:1::/],
  ])("of family %s is flat over %s alone", async (family, word, address) => {
    const name = uniqueName();
    const finished = await lab("--nodes", "2", "--pods", "1", "--family", family, "--json", "--name", name);
    const report = reportOf(finished);
    expect(report.verdict).toEqual({ flat: true, text: expect.stringContaining(`24 cells over ${word}, TCP and UDP`) });
    expect(finished.status).toBe(0);
    expect(report.nodes[0]?.pods[0]?.addresses).toEqual([expect.stringMatching(address)]);
    expect(await tracesOf(name)).toEqual([]);
  });

  test.each(["routed", "bgp"])(
    "of topology %s is flat through its router, and leaves nothing behind",
    async (topology) => {
      const name = uniqueName();
      const finished = await lab("--topology", topology, "--nodes", "3", "--pods", "1", "--json", "--name", name);
      expect(reportOf(finished).verdict).toEqual({
        flat: true,
        text: expect.stringMatching(/^FLAT: 3 pods on 3 nodes, 120 cells over IPv4 and IPv6/),
      });
      expect(finished).toMatchObject({ status: 0, stderr: "" });
      expect(await tracesOf(name)).toEqual([]);
    },
  );

  test("is not flat when the router forgets a subnet that it was given, between that one's node and the other link", async () => {
    const name = await keepLab("--topology", "routed", "--nodes", "3", "--pods", "1");
    // The third node is alone on its link. Its daemon can't tell what the router knows, and says so.
    const { socket, log } = nodePaths(name, "node3");
    const conf = { cniVersion: "1.1.0", name: "flatnet", type: "flatnet", socket };
    const status = ["ip", "netns", "exec", `flatnet-${name}-node3`, "env", "CNI_COMMAND=STATUS", built("flatnet")];
    expect(await runToEnd(status, { input: JSON.stringify(conf) })).toMatchObject({ status: 0 });
    expect(await readFile(log, "utf8")).toContain("172.18.1.11 is behind the router 172.18.2.1");

    await run(["ip", "-n", `flatnet-${name}-underlay`, "route", "delete", "10.244.3.0/24"]);
    const { verdict, proof } = reportOf(await lab("prove", "--json", "--name", name));
    expect(verdict.text).toMatch(/^NOT FLAT: pods reach pods: node\d-pod1 \S+ -> node\d-pod1 \S+ \(tcp, IPv4\): /);
    const nodes = (end: string) => end.replace("-pod1", "");
    expect(new Set(proof.failures.map(({ from, to }) => [nodes(from), nodes(to)].sort().join(" ")))).toEqual(
      new Set(["node1 node3", "node2 node3"]),
    );
  });

  test("with BGP is not flat any more when the router takes a subnet away from the nodes, and flat when it has it again", async () => {
    const name = await keepLab("--topology", "bgp", "--nodes", "2", "--pods", "1", "--family", "v4");
    const bird = (...words: string[]) => run(["birdc", "-s", routerPaths(name).socket, ...words]);
    await bird("disable", '"rack2_4*"');
    await waitFor(async () => !(await run(["ip", "-n", `flatnet-${name}-node1`, "route"])).includes("10.244.2.0/24"));
    expect(reportOf(await lab("prove", "--json", "--name", name)).verdict).toMatchObject({ flat: false });
    await bird("enable", '"rack2_4*"');
    await waitFor(async () => (await run(["ip", "-n", `flatnet-${name}-node1`, "route"])).includes("10.244.2.0/24"), {
      timeoutMs: 40_000,
    });
    await waitFor(async () => (await run(["ip", "-n", `flatnet-${name}-node2`, "route"])).includes("10.244.1.0/24"));
    expect(reportOf(await lab("prove", "--json", "--name", name)).verdict).toMatchObject({ flat: true });
  });

  test("of one node with one pod is flat", async () => {
    const report = reportOf(await lab("--nodes", "1", "--pods", "1", "--json", "--name", uniqueName()));
    expect(report.verdict.text).toMatch(/^FLAT: 1 pod on 1 node, 8 cells /);
  });

  test("draws nodes and matrix for people, says what ADD took, and ends with the verdict", async () => {
    const { status, stdout } = await lab("--nodes", "2", "--pods", "1", "--name", uniqueName());
    expect(stdout).toContain("├─ node1  172.18.0.11  fd00:18::11  pods in 10.244.1.0/24  fd00:10:244:1::/64");
    expect(stdout).toContain("node1-pod1  ●-     ●●");
    expect(stdout).toMatch(/ADD took \d+\.\d ms \(median of 2\), at most \d+\.\d ms/);
    expect(stdout.trimEnd().split("\n").at(-1)).toMatch(/^FLAT: 2 pods on 2 nodes, 48 cells /);
    // Not a terminal: nothing is rewritten or coloured.
    expect(stdout).not.toContain("\x1b");
    expect(status).toBe(0);
  });

  test("without a route to a peer's subnet is not flat: pods do not reach pods", async () => {
    const name = await keepLab();
    // The daemon would put the route back.
    process.kill(await daemonPid(name, "node1"), "SIGKILL");
    await run(["ip", "-n", `flatnet-${name}-node1`, "route", "delete", "10.244.2.0/24"]);

    const finished = await lab("prove", "--json", "--name", name);

    expect(finished.status).toBe(1);
    const { verdict, proof } = reportOf(finished);
    expect(verdict.flat).toBe(false);
    expect(verdict.text).toMatch(
      /^NOT FLAT: pods reach pods: node1-pod\d 10\.244\.1\.\d+ -> node2-pod\d 10\.244\.2\.\d+ \(tcp, IPv4\): /,
    );
    // All of IPv4 between node1's side and node2's pods, in both directions, and nothing else.
    expect(proof.failures.every((failure) => failure.family === "IPv4")).toBe(true);
    expect(new Set(proof.failures.map(({ from, to }) => `${from} ${to}`))).toEqual(
      new Set(
        ["node1", "node1-pod1", "node1-pod2"].flatMap((a) =>
          ["node2-pod1", "node2-pod2"].flatMap((b) => [`${a} ${b}`, `${b} ${a}`]),
        ),
      ),
    );
    expect(proof.failed).toBe(24);
  });

  test("with a masquerade rule on a node is not flat: the receiver sees another address", async () => {
    const name = await keepLab();
    await nft(
      `flatnet-${name}-node1`,
      'table ip t { chain c { type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }; }',
    );

    const finished = await lab("prove", "--json", "--name", name);

    expect(finished.status).toBe(1);
    const { verdict, proof } = reportOf(finished);
    expect(verdict.text).toMatch(
      /^NOT FLAT: no NAT: the receiver sees the sender's own address: node1-pod\d \S+ -> node2-pod\d \S+ \(tcp, IPv4\): node2-pod\d saw 172\.18\.0\.11, /,
    );
    expect(proof.failures.every((failure) => failure.requirement === NO_NAT)).toBe(true);
    expect(new Set(proof.failures.map(({ from }) => from))).toEqual(new Set(["node1-pod1", "node1-pod2"]));

    await nft(`flatnet-${name}-node1`, "delete table ip t");
    expect(reportOf(await lab("prove", "--json", "--name", name)).verdict).toMatchObject({ flat: true });
  });

  test("with a redirection on a node is not flat: the packet reaches another address", async () => {
    const name = await keepLab();
    const [one, two] = (await readState(name))?.topology.nodes[1]?.pods ?? [];
    const [from, to] = [one?.addresses[1], two?.addresses[1]];
    await nft(
      `flatnet-${name}-node2`,
      `table ip6 t { chain c { type nat hook prerouting priority dstnat; iifname "eth0" ip6 daddr ${from} dnat to ${to}; }; }`,
    );

    const { verdict, proof } = reportOf(await lab("prove", "--json", "--name", name));

    expect(verdict.text).toContain(`${NOT_REDIRECTED}: node1-pod1 `);
    expect(verdict.text).toContain(`node2-pod1 ${from} (tcp, IPv6): it came to node2-pod2 at ${to}`);
    expect(new Set(proof.failures.map((failure) => failure.requirement))).toEqual(new Set([NOT_REDIRECTED]));
  });

  test("finds what a DEL that did not happen would leave", async () => {
    const name = await keepLab("--nodes", "1", "--pods", "1", "--family", "v4");
    const state = await readState(name);
    const left = state === undefined ? [] : await listLeftovers(state.topology);
    expect(left.sort()).toEqual([
      expect.stringMatching(/^link fl[a-z2-7]{11} on node1$/),
      expect.stringMatching(/^route to 10\.244\.1\.\d+ on node1$/),
    ]);
  });

  test.each(["SIGINT", "SIGTERM"] as const)("that gets %s in the middle leaves nothing behind", async (signal) => {
    const name = uniqueName();
    const child = await startDaemon({
      // So many pods that it is not done when it has a daemon.
      argv: [built("flatnetctl"), "lab", "--nodes", "2", "--pods", "12", "--name", name],
      ready: async () => (await readFile(nodePaths(name, "node2").log, "utf8")).includes('"serving"'),
    });
    cleanup.add(() => child.stop("SIGKILL"));
    expect(await child.stop(signal)).toBe(signal === "SIGINT" ? 130 : 143);
    expect(child.output()).toContain("flatnetctl lab: interrupted; everything it made is removed\n");
    expect(await tracesOf(name)).toEqual([]);
  });

  test("that gets SIGINT at any moment leaves nothing behind", async () => {
    for (const delayMs of [0, 100, 200, 350, 500, 700, 900]) {
      const name = uniqueName();
      const child = await startDaemon({
        argv: [built("flatnetctl"), "lab", "--nodes", "2", "--pods", "2", "--name", name],
        ready: () => true,
      });
      cleanup.add(() => child.stop("SIGKILL"));
      await sleep(delayMs);
      // 0: it was done before; null: the signal came before there was anything to catch it.
      expect([0, 130, null]).toContain(await child.stop("SIGINT"));
      expect(await tracesOf(name)).toEqual([]);
    }
  });

  test("that was killed is swept by the next of its name", async () => {
    const name = uniqueName();
    const child = await startDaemon({
      argv: [built("flatnetctl"), "lab", "--nodes", "2", "--pods", "2", "--name", name],
      ready: async () => (await readFile(nodePaths(name, "node2").log, "utf8")).includes('"serving"'),
    });
    await child.stop("SIGKILL");
    expect(await tracesOf(name)).not.toEqual([]);
    const finished = await lab("--nodes", "1", "--pods", "1", "--name", name);
    expect(finished.status).toBe(0);
    expect(finished.stdout).toContain(`removing what an earlier lab ${name} left`);
    expect(await tracesOf(name)).toEqual([]);
  });

  test("is refused its name while a lab of that name is up, and that lab stays as it is", async () => {
    const name = await keepLab("--nodes", "1", "--pods", "1");
    expect(await lab("--nodes", "1", "--pods", "1", "--name", name)).toEqual({
      status: 1,
      stdout: "",
      stderr: `flatnetctl lab: lab ${name} is up; flatnetctl lab down --name ${name} removes it\n`,
    });
    expect(reportOf(await lab("prove", "--json", "--name", name)).verdict).toMatchObject({ flat: true });
    expect(await lab("down", "--name", name)).toMatchObject({ status: 0, stdout: `lab ${name} is removed\n` });
    expect(await tracesOf(name)).toEqual([]);
    expect(await lab("down", "--name", name)).toMatchObject({ status: 0, stdout: `there is no lab ${name}\n` });
    expect(await lab("prove", "--name", name)).toMatchObject({
      status: 1,
      stderr: `flatnetctl lab: no lab ${name} is up; flatnetctl lab --keep --name ${name} makes one\n`,
    });
  });

  test("is refused its name while another process works on the lab", async () => {
    const name = uniqueName();
    const lock = await lockLab(name);
    cleanup.add(() => lock.release());
    for (const command of ["up", "prove", "down"]) {
      expect(await lab(command, "--name", name)).toEqual({
        status: 1,
        stdout: "",
        stderr: `flatnetctl lab: lab ${name} is in use by process ${process.pid}; --name gives this one another name\n`,
      });
    }
  });

  test("whose reader leaves after a line leaves nothing behind", async () => {
    const name = uniqueName();
    const pipe = `"$0" lab --nodes 2 --pods 1 --name ${name} | head -n 1`;
    const { stdout, stderr } = await runToEnd(["bash", "-c", pipe, built("flatnetctl")]);
    expect(stdout).toMatch(/5 namespaces, 2 daemons serving/);
    expect(stderr).toBe("");
    expect(await tracesOf(name)).toEqual([]);
  });

  test("with wrong options is one line and exit status 2", async () => {
    expect(await lab("--family", "v5")).toEqual({
      status: 2,
      stdout: "",
      stderr: 'flatnetctl lab: --family is v4, v6 or dual, not "v5"\n',
    });
  });
});
