// SPDX-License-Identifier: Apache-2.0
//
// What HostPorts makes of a namespace's nftables and connections, as nft and /proc tell it.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, run } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import type { PortMapping, PortRecord } from "./entries.ts";
import type { Answer, Command } from "./testing/host-ports-process.ts";

const PROCESS = new URL("./testing/host-ports-process.ts", import.meta.url).pathname;

const ANTISPOOF = `
	chain antispoof {
		type filter hook prerouting priority raw; policy accept;
		iifgroup & 65535 == 26220 fib saddr . iif oif missing counter drop
	}
`;

/** The chains that hostPorts need, in nft's words. */
const CHAINS = `
	chain hostport {
		dnat ip to ip daddr . meta l4proto . th dport map @hostport4_on
		dnat ip to meta l4proto . th dport map @hostport4
		ip6 daddr ::1 return
		ip6 daddr fe80::/10 return
		dnat ip6 to ip6 daddr . meta l4proto . th dport map @hostport6_on
		dnat ip6 to meta l4proto . th dport map @hostport6
	}

	chain hostport_prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump hostport
	}

	chain hostport_output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump hostport
	}

	chain hostport_postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifgroup & 65535 == 26220 ip saddr 127.0.0.0/8 ct status dnat masquerade
		ip saddr . ip daddr @hairpin4 ct status dnat masquerade
		ip6 saddr . ip6 daddr @hairpin6 ct status dnat masquerade
	}

	chain hostport_localnet {
		type filter hook prerouting priority raw; policy accept;
		iifgroup & 65535 == 26220 ip daddr 127.0.0.0/8 counter drop
	}
`;

const SETS = {
  hostport4: ["map", "inet_proto . inet_service : ipv4_addr . inet_service"],
  hostport4_on: ["map", "ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service"],
  hostport6: ["map", "inet_proto . inet_service : ipv6_addr . inet_service"],
  hostport6_on: ["map", "ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service"],
  hairpin4: ["set", "ipv4_addr . ipv4_addr"],
  hairpin6: ["set", "ipv6_addr . ipv6_addr"],
} as const;

/** The table with these elements, one a set at most: nft lists several in no order. */
function tableText(elements: Partial<Record<keyof typeof SETS, string>>, antiSpoof = true): string {
  const sets = Object.entries(SETS).map(([name, [kind, type]]) => {
    const element = elements[name as keyof typeof SETS];
    const line = element === undefined ? "" : `\t\telements = { ${element} }\n`;
    return `\t${kind} ${name} {\n\t\ttype ${type}\n${line}\t}\n`;
  });
  return `table inet flatnet {\n${sets.join("\n")}${antiSpoof ? ANTISPOOF : ""}${CHAINS}}\n`;
}

function pod(name: string, last: number, ...mappings: Partial<PortMapping>[]): PortRecord {
  return {
    attachment: { network: "n", containerId: name, ifname: "eth0" },
    addresses: [`10.77.1.${last}`, `fd00:77:1::${last}`],
    portMappings: mappings.map((mapping) => ({
      hostPort: 8080,
      containerPort: 80,
      protocol: "tcp",
      hostIp: "",
      ...mapping,
    })),
  };
}

const WEB = pod("web", 2, {});
const WEB_ELEMENTS = {
  hostport4: "tcp . 8080 : 10.77.1.2 . 80",
  hostport6: "tcp . 8080 : fd00:77:1::2 . 80",
  hairpin4: "10.77.1.2 . 10.77.1.2",
  hairpin6: "fd00:77:1::2 . fd00:77:1::2",
};

describe.runIf(canUseKernel())("the table", () => {
  const cleanup = new Cleanup();
  let netns: Netns;

  beforeEach(async () => {
    netns = await createNetns("hostport", cleanup);
  });
  afterEach(() => cleanup.run());

  /** HostPorts in the namespace. Returns a function that has it do something and waits until it is done. */
  async function startHostPorts(...args: string[]): Promise<(command: Command) => Promise<Answer>> {
    const [command = "", ...rest] = netns.command(process.execPath, PROCESS, ...args);
    const child = spawn(command, rest, { stdio: ["pipe", "pipe", "inherit"] });
    const ended = once(child, "close");
    cleanup.add(async () => {
      child.stdin.end();
      await ended;
    });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    expect(await lines.next()).toEqual({ done: false, value: "ready" });
    return async (request) => {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      const { value } = await lines.next();
      return JSON.parse(value ?? "no answer") as Answer;
    };
  }

  const nft = (...args: string[]) => run(netns.command("nft", ...args));
  const table = () => nft("-s", "list", "table", "inet", "flatnet");

  test("is what nft writes for it, and what nft reads from that", async () => {
    const ask = await startHostPorts();
    const record = pod(
      "web",
      2,
      { hostPort: 53, protocol: "udp", hostIp: "192.0.2.1" },
      { hostPort: 53, protocol: "sctp", hostIp: "2001:db8::1", containerPort: 5353 },
      {},
    );
    expect(await ask({ start: [record], antiSpoof: true })).toEqual({ told: [] });
    const expected = tableText({
      ...WEB_ELEMENTS,
      hostport4_on: "192.0.2.1 . udp . 53 : 10.77.1.2 . 80",
      hostport6_on: "2001:db8::1 . sctp . 53 : fd00:77:1::2 . 5353",
    });
    expect(await table()).toBe(expected);
    const other = await createNetns("nft", cleanup);
    await run(other.command("nft", "-f", "-"), { input: expected });
    expect(await run(other.command("nft", "-s", "list", "table", "inet", "flatnet"))).toBe(expected);
  });

  test("has anti-spoofing alone on a node without hostPorts, and is not there without that", async () => {
    const ask = await startHostPorts();
    await ask({ start: [pod("plain", 2)], antiSpoof: true });
    expect(await table()).toBe(`table inet flatnet {${ANTISPOOF}}\n`);
    await ask({ start: [pod("plain", 2)], antiSpoof: false });
    expect(await nft("list", "tables")).toBe("");
  });

  test("has hostPorts without anti-spoofing where that is not wanted", async () => {
    const ask = await startHostPorts();
    await ask({ start: [WEB], antiSpoof: false });
    expect(await table()).toBe(tableText(WEB_ELEMENTS, false));
  });

  test("gets its chains with the first hostPort, and no pod after that changes more than elements", async () => {
    const ask = await startHostPorts();
    await ask({ start: [], antiSpoof: true });
    expect(await ask({ set: WEB })).toEqual({ told: [] });
    expect(await table()).toBe(tableText(WEB_ELEMENTS));
    // Handles are given once: a chain or set that was made again would have another.
    const handles = async () => (await nft("-a", "list", "table", "inet", "flatnet")).match(/# handle \d+/g);
    const before = await handles();
    await ask({ set: pod("dns", 3, { hostPort: 53, protocol: "udp", hostIp: "192.0.2.1" }) });
    expect(await table()).toContain("192.0.2.1 . udp . 53 : 10.77.1.3 . 80");
    await ask({ clear: pod("dns", 3) });
    expect(await table()).toBe(tableText(WEB_ELEMENTS));
    await ask({ clear: WEB });
    expect(await table()).toBe(tableText({}));
    expect(await handles()).toEqual(before);
  });

  test("has what a pod was given last, and clearing twice is no error", async () => {
    const ask = await startHostPorts();
    await ask({ start: [WEB], antiSpoof: true });
    expect(await ask({ set: pod("web", 2, { hostPort: 9090 }) })).toEqual({ told: [] });
    expect(await table()).toBe(
      tableText({
        ...WEB_ELEMENTS,
        hostport4: "tcp . 9090 : 10.77.1.2 . 80",
        hostport6: "tcp . 9090 : fd00:77:1::2 . 80",
      }),
    );
    expect(await ask({ clear: WEB })).toEqual({ told: [] });
    expect(await ask({ clear: WEB })).toEqual({ told: [] });
    expect(await table()).toBe(tableText({}));
  });

  test("gives a port that a lost pod still has to the next one, whom a late end of the first doesn't hurt", async () => {
    const ask = await startHostPorts();
    await ask({ start: [pod("lost", 9, {})], antiSpoof: true });
    await ask({ set: pod("web", 2, {}) });
    await ask({ clear: pod("lost", 9, {}) });
    expect(await table()).toBe(tableText(WEB_ELEMENTS));
  });

  test("stays as it is when a pod's ports can't be, and a start goes on without that pod", async () => {
    const ask = await startHostPorts();
    const odd = pod("odd", 3, { hostPort: 1 }, { hostIp: "::1" });
    const { told } = await ask({ start: [odd, WEB], antiSpoof: true });
    expect(told).toEqual([
      expect.stringMatching(/^the hostPorts of n\/odd\/eth0 are left out: hostPort 8080\/tcp on ::1/),
    ]);
    expect(await table()).toBe(tableText(WEB_ELEMENTS));
    expect(await ask({ set: odd })).toMatchObject({ error: expect.stringMatching(/^HOSTPORT_INVALID: /) });
    expect(await table()).toBe(tableText(WEB_ELEMENTS));
  });

  test.each([
    ["emptied", ["flush", "map", "inet", "flatnet", "hostport4"]],
    ["deleted", ["delete", "table", "inet", "flatnet"]],
  ])("that somebody else has %s is made anew with the next change, and that is told", async (_what, command) => {
    const ask = await startHostPorts();
    await ask({ start: [WEB], antiSpoof: true });
    await nft(...command);
    const { told, error } = await ask({ set: pod("web", 2, { hostPort: 9090 }) });
    expect(error).toBeUndefined();
    expect(told).toEqual([expect.stringContaining("changed by somebody else")]);
    expect(await table()).toContain("tcp . 9090 : 10.77.1.2 . 80");
    expect(await table()).not.toContain("8080");
  });

  test("is found to have a pod's ports, of whatever kind, after a start, a change and the first hostPort", async () => {
    const ask = await startHostPorts();
    const record = pod("web", 2, {}, { hostPort: 53, protocol: "udp", hostIp: "192.0.2.1" }, { hostIp: "2001:db8::1" });
    await ask({ start: [], antiSpoof: true });
    await ask({ set: record });
    expect(await ask({ check: record })).toEqual({ problems: [], told: [] });
    await ask({ set: WEB });
    expect(await ask({ check: WEB })).toEqual({ problems: [], told: [] });
    await ask({ start: [record], antiSpoof: false });
    expect(await ask({ check: record })).toEqual({ problems: [], told: [] });
  });

  const lost = (port: string, target: string, map: string) =>
    `hostPort ${port} does not lead to ${target}: nftables map ${map} has nothing for it`;

  test.each<[string, string[][], string[]]>([
    [
      "an element that was deleted",
      [["delete", "element", "inet", "flatnet", "hostport4", "{ tcp . 8080 }"]],
      [lost("8080/tcp", "10.77.1.2:80", "hostport4")],
    ],
    [
      "an element for one address that was deleted",
      [["delete", "element", "inet", "flatnet", "hostport6_on", "{ 2001:db8::1 . udp . 53 }"]],
      [lost("53/udp on 2001:db8::1", "[fd00:77:1::2]:80", "hostport6_on")],
    ],
    [
      "a way to itself that was deleted",
      [["delete", "element", "inet", "flatnet", "hairpin4", "{ 10.77.1.2 . 10.77.1.2 }"]],
      ["hostPorts do not lead 10.77.1.2 to itself: nftables set hairpin4 does not have it"],
    ],
    [
      "an element that was changed",
      [
        ["delete", "element", "inet", "flatnet", "hostport6", "{ tcp . 8080 }"],
        ["add", "element", "inet", "flatnet", "hostport6", "{ tcp . 8080 : fd00:77:1::9 . 81 }"],
      ],
      ["hostPort 8080/tcp leads to [fd00:77:1::9]:81, and not to [fd00:77:1::2]:80"],
    ],
    [
      "chains that were emptied or deleted",
      [
        ["flush", "chain", "inet", "flatnet", "hostport_prerouting"],
        ["delete", "chain", "inet", "flatnet", "hostport_localnet"],
      ],
      [
        "chain hostport_prerouting of nftables table inet flatnet has lost rules",
        "nftables table inet flatnet has no chain hostport_localnet",
      ],
    ],
    [
      "a set that was deleted, and not what was in it",
      [
        ["flush", "chain", "inet", "flatnet", "hostport"],
        ["delete", "map", "inet", "flatnet", "hostport4"],
      ],
      [
        "chain hostport of nftables table inet flatnet has lost rules",
        "nftables table inet flatnet has no set hostport4",
      ],
    ],
    [
      "the table that was deleted, and not what was in it",
      [["delete", "table", "inet", "flatnet"]],
      ["there is no nftables table inet flatnet"],
    ],
    [
      "a rule that was replaced",
      [
        [
          "replace",
          "rule",
          "inet",
          "flatnet",
          "hostport_prerouting",
          "handle",
          "HANDLE",
          "fib daddr type local accept",
        ],
      ],
      ["chain hostport_prerouting of nftables table inet flatnet has rules that are not flatnet's instead of its own"],
    ],
    [
      "a rule that was made again",
      [
        ["flush", "chain", "inet", "flatnet", "hostport_prerouting"],
        ["add", "rule", "inet", "flatnet", "hostport_prerouting", "fib daddr type local jump hostport"],
      ],
      ["chain hostport_prerouting of nftables table inet flatnet has rules that are not flatnet's instead of its own"],
    ],
    [
      "a foreign rule before its own",
      [["insert", "rule", "inet", "flatnet", "hostport", "tcp dport 8080 return"]],
      ["chain hostport of nftables table inet flatnet has rules that are not flatnet's"],
    ],
    [
      "a rule that was deleted among others",
      [["delete", "rule", "inet", "flatnet", "hostport", "handle", "HANDLE"]],
      ["chain hostport of nftables table inet flatnet has lost rules"],
    ],
    [
      "a policy to drop",
      [["add", "chain", "inet", "flatnet", "hostport_prerouting", "{ policy drop; }"]],
      ["chain hostport_prerouting of nftables table inet flatnet drops what none of its rules decides"],
    ],
    [
      "all its chains asleep",
      [["add", "table", "inet", "flatnet", "{ flags dormant; }"]],
      ["nftables table inet flatnet is dormant"],
    ],
  ])("with %s is found out, and left so until a start", async (_what, commands, problems) => {
    const ask = await startHostPorts();
    const record = pod("web", 2, {}, { hostPort: 53, protocol: "udp", hostIp: "2001:db8::1" });
    await ask({ start: [record], antiSpoof: true });
    for (const command of commands) {
      // That of the chain's first rule, where a command asks for one.
      const chain = command.includes("HANDLE") ? await nft("-a", "list", "chain", ...command.slice(2, 5)) : "";
      const [, handle = ""] = /^\t\t[^{]* # handle (\d+)$/m.exec(chain) ?? [];
      await nft(...command.map((word) => (word === "HANDLE" ? handle : word)));
    }
    const before = await nft("-s", "list", "ruleset");
    expect(await ask({ check: record })).toEqual({ problems, told: [] });
    expect(await nft("-s", "list", "ruleset")).toBe(before);
    // A daemon that starts makes the table what it should be, whatever it finds.
    await ask({ start: [record], antiSpoof: true });
    expect(await ask({ check: record })).toEqual({ problems: [], told: [] });
  });

  test("is not found wanting for what another pod has lost", async () => {
    const ask = await startHostPorts();
    await ask({ start: [WEB, pod("other", 3, { hostPort: 9090 })], antiSpoof: true });
    await nft("delete", "element", "inet", "flatnet", "hostport4", "{ tcp . 9090 }");
    expect(await ask({ check: WEB })).toEqual({ problems: [], told: [] });
  });

  test("is asked about hundreds of ports of a pod, and the first that are lost are named, the others counted", async () => {
    const ask = await startHostPorts();
    const record = pod("web", 2, ...Array.from({ length: 300 }, (_, n) => ({ hostPort: 1000 + n })));
    await ask({ start: [record], antiSpoof: true });
    expect(await ask({ check: record })).toEqual({ problems: [], told: [] });
    await nft("flush", "map", "inet", "flatnet", "hostport4");
    const { problems } = await ask({ check: record });
    expect(problems).toHaveLength(21);
    expect(problems?.at(0)).toBe(lost("1000/tcp", "10.77.1.2:80", "hostport4"));
    expect(problems?.at(-1)).toBe("and 280 more");
  });

  test("is whole however many ports there are, and whatever was in it before", async () => {
    await nft("add", "table", "inet", "flatnet");
    await nft("add", "chain", "inet", "flatnet", "stray");
    const ask = await startHostPorts();
    const records = Array.from({ length: 20 }, (_, i) =>
      pod(`p${i}`, i + 2, ...Array.from({ length: 100 }, (_, n) => ({ hostPort: 1000 + 100 * i + n }))),
    );
    expect(await ask({ start: records, antiSpoof: true })).toEqual({ told: [] });
    const text = await table();
    expect(text).not.toContain("stray");
    expect(text.match(/tcp \. \d+ : 10\.77\.1\.\d+ \. 80/g)).toHaveLength(2000);
    expect(text.match(/tcp \. \d+ : fd00:77:1::[0-9a-f]+ \. 80/g)).toHaveLength(2000);
  });

  describe.each([["this kernel"], ["old-kernel"]])("on %s", (kernel) => {
    const UDP = { hostPort: 53, protocol: "udp" };

    /** Sends a datagram, which the kernel tracks from then on. */
    const send = (from: string, to: string, port: number) => {
      const script = `const socket = require("node:dgram").createSocket("udp${from.includes(":") ? 6 : 4}");
        socket.bind({ address: "${from}" }, () => socket.send("x", ${port}, "${to}", () => socket.close()));`;
      return run(netns.command(process.execPath, "-e", script));
    };

    /** What is tracked: "192.0.2.2 > 192.0.2.1:53", in order. */
    const flows = async () => {
      const text = await run(netns.command("cat", "/proc/net/nf_conntrack"));
      return [...text.matchAll(/^.*? src=(\S+) dst=(\S+) sport=\d+ dport=(\d+)/gm)]
        .map(([, from, to, port]) => `${from} > ${to}:${port}`)
        .sort();
    };

    beforeEach(async () => {
      for (const address of ["192.0.2.1/32", "192.0.2.2/32", "10.77.1.2/32", "10.77.1.3/32"]) {
        await netns.ip("address", "add", address, "dev", "lo");
      }
    });

    test("UDP connections to a hostPort from before it led anywhere are forgotten, and no others", async () => {
      const ask = await startHostPorts(kernel);
      await ask({ start: [WEB], antiSpoof: true });
      await send("192.0.2.2", "192.0.2.1", 53);
      await send("192.0.2.2", "192.0.2.1", 54);
      await send("192.0.2.2", "127.0.0.1", 53);
      expect(await flows()).toHaveLength(3);
      expect(await ask({ set: pod("dns", 3, UDP) })).toEqual({ told: [] });
      expect(await flows()).toEqual(["192.0.2.2 > 192.0.2.1:54"]);
    });

    test("with a hostPort on one address, connections to the others stay", async () => {
      const ask = await startHostPorts(kernel);
      await ask({ start: [WEB], antiSpoof: true });
      await send("192.0.2.1", "192.0.2.1", 53);
      await send("192.0.2.1", "192.0.2.2", 53);
      await ask({ set: pod("dns", 3, { ...UDP, hostIp: "192.0.2.1" }) });
      expect(await flows()).toEqual(["192.0.2.1 > 192.0.2.2:53"]);
    });

    test("connections that lead where they should outlive a new start", async () => {
      const dns = pod("dns", 3, UDP);
      const ask = await startHostPorts(kernel);
      await ask({ start: [dns], antiSpoof: true });
      await send("192.0.2.2", "192.0.2.1", 53);
      await ask({ start: [dns], antiSpoof: true });
      expect(await flows()).toEqual(["192.0.2.2 > 192.0.2.1:53"]);
      await ask({ start: [pod("dns", 2, UDP)], antiSpoof: true });
      expect(await flows()).toEqual([]);
    });

    test("all connections of a pod that is gone are forgotten, from it, to it and through its hostPort", async () => {
      const ask = await startHostPorts(kernel);
      await ask({ start: [pod("dns", 3, UDP)], antiSpoof: true });
      await send("10.77.1.3", "192.0.2.1", 99);
      await send("192.0.2.2", "10.77.1.3", 99);
      await send("192.0.2.2", "192.0.2.1", 53);
      await send("192.0.2.2", "10.77.1.2", 99);
      expect(await flows()).toHaveLength(4);
      await ask({ clear: pod("dns", 3) });
      expect(await flows()).toEqual(["192.0.2.2 > 10.77.1.2:99"]);
      await ask({ forget: ["10.77.1.2", "fd00:77:1::2"] });
      expect(await flows()).toEqual([]);
    });

    test("all connections of addresses that are given again are forgotten by the time of the answer", async () => {
      const ask = await startHostPorts(kernel);
      await ask({ start: [pod("dns", 3, UDP)], antiSpoof: true });
      await send("10.77.1.3", "192.0.2.1", 99);
      await send("192.0.2.2", "10.77.1.3", 99);
      await send("192.0.2.2", "192.0.2.1", 53);
      await send("192.0.2.2", "10.77.1.2", 99);
      // Nothing else is waited for: see host-ports-process.ts.
      expect(await ask({ forgetNow: ["10.77.1.3", "fd00:77:1::3"] })).toEqual({ told: [] });
      expect(await flows()).toEqual(["192.0.2.2 > 10.77.1.2:99"]);
    });
  });

  test("forgetting connections is no error in a namespace that tracks none", async () => {
    const ask = await startHostPorts();
    await ask({ start: [], antiSpoof: false });
    expect(await ask({ forget: ["10.77.1.2"] })).toEqual({ told: [] });
  });
});
