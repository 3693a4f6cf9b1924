// SPDX-License-Identifier: Apache-2.0
//
// The policies' table as nft prints it, and as packets meet it in packets.kernel.test.ts.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, run } from "../../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, type Netns } from "../../../test/helpers/netns.ts";
import { visit } from "../../../test/helpers/visit.ts";
import { NETLINK_NETFILTER, Netlink } from "../../netlink/event-loop.ts";
import { removeTable } from "../../nft/table.ts";
import { Transactor } from "../../nft/transactor.ts";
import { sys, writeAside } from "../../sys/node.ts";
import { baseChains, fixedSets } from "../base-chains.ts";
import { diff } from "../diff.ts";
import { UNKNOWN_CHAIN } from "../profile.ts";
import {
  type NamedSet,
  NO_RULESET,
  POLICY_TABLE,
  type PolicyChain,
  type PolicyRule,
  type Ruleset,
} from "../ruleset.ts";
import { type Applied, PolicyTable } from "./policy-table.ts";

const GROUP = 26220;
const POLICY = { kind: "NetworkPolicy", namespace: "shop", name: "web" } as const;

function rule(part: Partial<PolicyRule> & Pick<PolicyRule, "verdict">): PolicyRule {
  return { matches: [], origins: [{ policy: POLICY, direction: "ingress", rule: 0 }], counted: true, ...part };
}

/** What may come to a pod of IPv4: from the set, to a port, from a block to ports; else nothing. */
const CHAIN: PolicyChain = {
  name: "i4_aa",
  family: 4,
  direction: "ingress",
  policies: [POLICY],
  rules: [
    rule({
      matches: [
        { kind: "lookup", fields: ["saddr"], set: "pods4_bb" },
        { kind: "l4proto", protocol: "tcp" },
        { kind: "dport", first: 80, last: 90 },
      ],
      verdict: { kind: "return" },
    }),
    rule({
      matches: [{ kind: "lookup", fields: ["saddr", "l4proto", "dport"], set: "blockports4_cc" }],
      verdict: { kind: "return" },
    }),
    rule({ matches: [{ kind: "lookup", fields: ["saddr"], set: "blocks4_dd" }], verdict: { kind: "return" } }),
    rule({ origins: [], verdict: { kind: "drop" } }),
  ],
};

interface Parts {
  readonly peers?: readonly string[];
  /** Local pods that are closed. */
  readonly pods?: readonly string[];
  readonly judgeNode?: boolean;
}

function rulesetOf({ peers = ["10.0.0.7"], pods = ["10.0.0.2"], judgeNode = false }: Parts = {}): Ruleset {
  const elements: Record<string, string[]> = {
    closed_ingress4: [...pods],
    self4: pods.map((pod) => `${pod} . ${pod}`),
  };
  const closed = pods.length > 0;
  const fixed = fixedSets().map(({ kind, name, key }): NamedSet => {
    if (kind === "set") return { kind, name, key, interval: false, elements: new Set(elements[name] ?? []) };
    return { kind, name, key, elements: new Map(name === "ingress4" ? pods.map((pod) => [pod, "i4_aa"]) : []) };
  });
  const named: NamedSet[] = [
    { kind: "set", name: "pods4_bb", key: ["ipv4_addr"], interval: false, elements: new Set(peers) },
    {
      kind: "set",
      name: "blockports4_cc",
      key: ["ipv4_addr", "inet_proto", "inet_service"],
      interval: true,
      elements: new Set(["10.1.0.0-10.1.255.255 . udp . 53", "10.2.0.1 . sctp . 100-200"]),
    },
    {
      kind: "set",
      name: "blocks4_dd",
      key: ["ipv4_addr"],
      interval: true,
      elements: new Set(["10.3.0.0-10.3.0.255", "255.255.255.0-255.255.255.255"]),
    },
  ];
  const sets = [...fixed, ...(closed ? named : [])];
  const chains = [...baseChains(judgeNode), UNKNOWN_CHAIN, ...(closed ? [CHAIN] : [])];
  return {
    sets: new Map(sets.map((set) => [set.name, set])),
    chains: new Map(chains.map((chain) => [chain.name, chain])),
  };
}

const MIDSTREAM = "ct state new tcp flags != syn / fin,syn,rst,ack";
const SAMPLE = (prefix: string) => `limit rate 1/second log prefix "${prefix}" group 26220 snaplen 128`;

const TEXT = `table inet flatnet_policy {
	map egress4 {
		type ipv4_addr : verdict
	}

	set closed_egress4 {
		type ipv4_addr
	}

	map ingress4 {
		type ipv4_addr : verdict
		elements = { 10.0.0.2 : jump i4_aa }
	}

	set closed_ingress4 {
		type ipv4_addr
		elements = { 10.0.0.2 }
	}

	set self4 {
		type ipv4_addr . ipv4_addr
		elements = { 10.0.0.2 . 10.0.0.2 }
	}

	map egress6 {
		type ipv6_addr : verdict
	}

	set closed_egress6 {
		type ipv6_addr
	}

	map ingress6 {
		type ipv6_addr : verdict
	}

	set closed_ingress6 {
		type ipv6_addr
	}

	set self6 {
		type ipv6_addr . ipv6_addr
	}

	set pods4_bb {
		type ipv4_addr
		elements = { 10.0.0.7 }
	}

	set blockports4_cc {
		type ipv4_addr . inet_proto . inet_service
		flags interval
		elements = { 10.1.0.0/16 . udp . 53,
			     10.2.0.1 . sctp . 100-200 }
	}

	set blocks4_dd {
		type ipv4_addr
		flags interval
		elements = { 10.3.0.0/24, 255.255.255.0/24 }
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		${MIDSTREAM} ip saddr @closed_ingress4 ${SAMPLE("forward")}
		${MIDSTREAM} ip saddr @closed_ingress4 counter packets 0 bytes 0 drop
		${MIDSTREAM} ip daddr @closed_egress4 ${SAMPLE("forward")}
		${MIDSTREAM} ip daddr @closed_egress4 counter packets 0 bytes 0 drop
		ip saddr . ip daddr @self4 accept
		ip saddr vmap @egress4
		ip daddr vmap @ingress4
		${MIDSTREAM} ip6 saddr @closed_ingress6 ${SAMPLE("forward")}
		${MIDSTREAM} ip6 saddr @closed_ingress6 counter packets 0 bytes 0 drop
		${MIDSTREAM} ip6 daddr @closed_egress6 ${SAMPLE("forward")}
		${MIDSTREAM} ip6 daddr @closed_egress6 counter packets 0 bytes 0 drop
		ip6 saddr . ip6 daddr @self6 accept
		ip6 saddr vmap @egress6
		ip6 daddr vmap @ingress6
	}

	chain unknown {
		${SAMPLE("unknown")}
		counter packets 0 bytes 0 drop
	}

	chain i4_aa {
		ip saddr @pods4_bb tcp dport 80-90 counter packets 0 bytes 0 return
		ip saddr . meta l4proto . th dport @blockports4_cc counter packets 0 bytes 0 return
		ip saddr @blocks4_dd counter packets 0 bytes 0 return
		${SAMPLE("i4_aa")}
		counter packets 0 bytes 0 drop
	}
}
`;

describe.runIf(canUseKernel())("the policies' table", () => {
  const cleanup = new Cleanup();
  let netns: Netns;

  beforeEach(async () => {
    netns = await createNetns("policy", cleanup);
  });
  afterEach(() => cleanup.run());

  const nft = (...args: string[]) => run(netns.command("nft", ...args));

  function openTransactor(): Transactor {
    const transactor = visit(netns, () => Transactor.open(sys, writeAside));
    cleanup.add(() => transactor.close());
    return transactor;
  }

  async function open() {
    let [taken, ruleset] = [NO_RULESET, NO_RULESET];
    const source = {
      get ruleset() {
        return ruleset;
      },
      take() {
        const change = diff(taken, ruleset);
        taken = ruleset;
        return change;
      },
    };
    const transactor = openTransactor();
    const netlink = visit(netns, () => Netlink.open(NETLINK_NETFILTER));
    cleanup.add(() => netlink.close());
    let dumps = 0;
    const counted: Pick<Netlink, "dump" | "submit"> = {
      dump: (request) => {
        dumps++;
        return netlink.dump(request);
      },
      submit: (requests) => netlink.submit(requests),
    };
    const table = await PolicyTable.open({ netlink: counted, transactor }, source, GROUP);
    return {
      apply: (wanted: Ruleset): Promise<Applied> => {
        ruleset = wanted;
        return table.sync();
      },
      verify: () => table.verify(),
      dumps: () => dumps,
      counters: () => table.counters(),
      hold: (addresses: readonly string[], as: "closed" | "open") => table.hold(addresses, as),
      /** What is wanted, without that it is applied. */
      want: (wanted: Ruleset): void => {
        ruleset = wanted;
      },
    };
  }

  test("is what the ruleset says, in nft's words, whatever was there", async () => {
    await nft("add table inet flatnet_policy; add chain inet flatnet_policy old");
    const table = await open();
    await table.apply(rulesetOf());
    expect(await nft("list", "ruleset")).toBe(TEXT);
  });

  test("stays as a daemon before left it until there is a ruleset, and then changes at once", async () => {
    const before = await open();
    await before.apply(rulesetOf());
    const after = await open();
    expect(await after.verify()).toEqual([]);
    expect(await nft("list", "ruleset")).toBe(TEXT);
    await after.apply(rulesetOf({ peers: ["10.0.0.8"] }));
    expect(await nft("list", "ruleset")).toBe(TEXT.replace("10.0.0.7", "10.0.0.8"));
  });

  test("changes by what is different, and what isn't keeps its counters", async () => {
    const table = await open();
    await table.apply(rulesetOf());
    const handles = await nft("--handle", "list", "chains");
    const { change } = await table.apply(rulesetOf({ peers: ["10.0.0.8"] }));
    expect(change.elements).toEqual([{ set: "pods4_bb", remove: ["10.0.0.7"], add: [{ key: "10.0.0.8" }] }]);
    expect(await nft("list", "ruleset")).toBe(TEXT.replace("10.0.0.7", "10.0.0.8"));
    expect(await nft("--handle", "list", "chains")).toBe(handles);
  });

  test("loses what no pod needs, and gets it back", async () => {
    const table = await open();
    await table.apply(rulesetOf());
    await table.apply(rulesetOf({ pods: [] }));
    const text = await nft("list", "ruleset");
    expect(text).not.toMatch(/i4_aa|pods4_bb|blockports4_cc|blocks4_dd|elements/);
    expect((await table.apply(rulesetOf())).refusal).toBeUndefined();
    expect(await nft("list", "ruleset")).toContain(TEXT.slice(TEXT.indexOf("\tchain i4_aa"), -2));
  });

  test("has a chain for what the node sends once that is to be judged", async () => {
    const table = await open();
    await table.apply(rulesetOf());
    await table.apply(rulesetOf({ judgeNode: true }));
    expect(await nft("list", "chain", "inet", "flatnet_policy", "output")).toBe(`table inet flatnet_policy {
	chain output {
		type filter hook output priority filter; policy accept;
		ct state established,related accept
		icmpv6 type 133-137 accept
		ip daddr vmap @ingress4
		ip6 daddr vmap @ingress6
	}
}
`);
    await table.apply(rulesetOf());
    expect(await nft("list", "ruleset")).toContain(TEXT.slice(TEXT.indexOf("\tchain unknown"), -2));
  });

  test.for([
    ["a set's element is gone", "delete element inet flatnet_policy pods4_bb { 10.0.0.7 }"],
    ["a set has another element", "add element inet flatnet_policy pods4_bb { 10.0.0.9 }"],
    ["a map's element is gone", "delete element inet flatnet_policy ingress4 { 10.0.0.2 }"],
    ["a block is gone", "delete element inet flatnet_policy blocks4_dd { 10.3.0.0/24 }"],
    ["a block has ports more", "add element inet flatnet_policy blockports4_cc { 10.9.0.0/16 . tcp . 1-2 }"],
    ["a chain is empty", "flush chain inet flatnet_policy forward"],
    ["a rule is one too many", "insert rule inet flatnet_policy i4_aa accept"],
    ["there is a foreign chain", "add chain inet flatnet_policy mine { type filter hook forward priority 1; }"],
    ["there is a foreign set", "add set inet flatnet_policy mine { type ipv4_addr; }"],
    ["the table is gone", "delete table inet flatnet_policy"],
  ])("is made anew, and it is told, when %s", async ([, harm]) => {
    const table = await open();
    await table.apply(rulesetOf());
    expect(await table.verify()).toEqual([]);
    await nft(harm as string);
    expect(await table.verify()).not.toEqual([]);
    expect(await nft("list", "ruleset")).toBe(TEXT);
    expect(await table.verify()).toEqual([]);
  });

  test("isn't read again when only its own transactions were in the namespace, and is after anybody else's", async () => {
    const table = await open();
    await table.apply(rulesetOf());
    expect(await table.verify()).toEqual([]);
    const read = table.dumps();
    await table.apply(rulesetOf({ peers: ["10.0.0.8"] }));
    await table.apply(rulesetOf({ peers: ["10.0.0.9"] }));
    expect(await table.verify()).toEqual([]);
    expect(table.dumps()).toBe(read);
    await nft("add table inet other");
    expect(await table.verify()).toEqual([]);
    expect(table.dumps()).toBeGreaterThan(read);
  });

  test("is made anew when a change finds it other than it was thought to be", async () => {
    const table = await open();
    await table.apply(rulesetOf());
    await nft("delete element inet flatnet_policy pods4_bb { 10.0.0.7 }");
    const { refusal } = await table.apply(rulesetOf({ peers: ["10.0.0.8"] }));
    expect(refusal?.errnoName).toBe("ENOENT");
    expect(await nft("list", "ruleset")).toBe(TEXT.replace("10.0.0.7", "10.0.0.8"));
  });

  test("is left alone by changes of other tables, and leaves those alone", async () => {
    const table = await open();
    await table.apply(rulesetOf());
    await nft("add table inet other; add chain inet other forward; add set inet other pods4_bb { type ipv4_addr; }");
    expect(await table.verify()).toEqual([]);
    await openTransactor().transaction(removeTable(POLICY_TABLE));
    expect(await nft("list", "tables")).toBe("table inet other\n");
  });

  test("says what each of its rules has counted", async () => {
    const table = await open();
    expect(await table.counters()).toEqual([]);
    await table.apply(rulesetOf());
    const counters = await table.counters();
    expect(counters.map(({ chain, place, packets }) => [chain, place, packets])).toEqual([
      ...[0, 1, 5, 6].map((n) => ["forward", n + 1, 0n]),
      ["unknown", 0, 0n],
      ...[0, 1, 2, 3].map((place) => ["i4_aa", place, 0n]),
    ]);
    expect(counters.at(-1)?.rule.verdict).toEqual({ kind: "drop" });
  });

  const elements = async (set: string) =>
    (await nft("list", "set", "inet", "flatnet_policy", set)).match(/elements = \{ (.*) \}/)?.[1];
  const mapped = async (map: string) =>
    (await nft("list", "map", "inet", "flatnet_policy", map)).match(/elements = \{ (.*) \}/)?.[1];

  test("closes a new pod's address while nothing is known, and leaves all else as a daemon before left it", async () => {
    await (await open()).apply(rulesetOf({ pods: ["10.0.0.2"] }));
    const table = await open();
    table.want(rulesetOf({ pods: [] }));
    // Somebody who is gone had it and was closed in one direction only; somebody else still has another.
    await table.hold(["10.0.0.2", "fd00::2"], "closed");
    for (const family of ["4", "6"]) {
      const address = family === "4" ? "10.0.0.2" : "fd00::2";
      for (const direction of ["ingress", "egress"]) {
        expect(await mapped(`${direction}${family}`)).toBe(`${address} : jump unknown`);
        expect(await elements(`closed_${direction}${family}`)).toBe(address);
      }
    }
    expect(await elements("pods4_bb")).toBe("10.0.0.7");
  });

  test("opens a new pod's address while nothing is known, though somebody who had it was closed", async () => {
    await (await open()).apply(rulesetOf({ pods: ["10.0.0.2", "10.0.0.3"] }));
    const table = await open();
    await table.hold(["10.0.0.2"], "open");
    expect([await mapped("ingress4"), await elements("closed_ingress4"), await elements("self4")]).toEqual([
      "10.0.0.3 : jump i4_aa",
      "10.0.0.3",
      "10.0.0.3 . 10.0.0.3",
    ]);
  });

  test("is made for the first pod that is to be closed while nothing is known, and not for one that is to be open", async () => {
    const table = await open();
    table.want(rulesetOf({ pods: [] }));
    await table.hold(["10.0.0.2"], "open");
    expect(await nft("list", "tables")).toBe("");
    await table.hold(["10.0.0.2"], "closed");
    await table.hold(["10.0.0.3"], "closed");
    expect((await mapped("ingress4"))?.split(", ").sort()).toEqual([
      "10.0.0.2 : jump unknown",
      "10.0.0.3 : jump unknown",
    ]);
    await table.apply(rulesetOf());
    expect(await mapped("ingress4")).toBe("10.0.0.2 : jump i4_aa");
    await table.hold(["10.0.0.3"], "closed");
    expect(await mapped("ingress4")).toBe("10.0.0.2 : jump i4_aa");
  });
});
