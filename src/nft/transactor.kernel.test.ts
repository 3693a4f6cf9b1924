// SPDX-License-Identifier: Apache-2.0
//
// What the kernel makes of rulesets, in nft's words.
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, run } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import { visit } from "../../test/helpers/visit.ts";
import { NETLINK_NETFILTER, Netlink } from "../netlink/event-loop.ts";
import { sys, writeAside } from "../sys/node.ts";
import {
  chainOf,
  elementsIn,
  foundRule,
  GET_GENERATION,
  generationOf,
  LIST_CHAINS,
  listElements,
  listSets,
  setOf,
} from "./contents.ts";
import {
  ACCEPT,
  address,
  COUNTER,
  compare,
  ctStateIs,
  DROP,
  destinationPort,
  goTo,
  limit,
  logToGroup,
  lookup,
  lookupVerdict,
  meta,
  ofFamily,
  RETURN,
} from "./expressions.ts";
import { listRules } from "./lookup.ts";
import {
  addElements,
  type Chain,
  concat,
  type Element,
  type NftSet,
  PRIORITY,
  removeChains,
  removeElements,
  removeSets,
  replaceRules,
  replaceTableAtOnce,
  textOfMark,
} from "./table.ts";
import { Transactor } from "./transactor.ts";

const TCP = Uint8Array.of(6);
const POD = Uint8Array.of(10, 244, 1, 2);

const MAP: NftSet = { name: "pods", key: ["ipv4_addr"], data: "verdict", elements: [{ key: POD, jump: "web" }] };
const RANGES: NftSet = {
  name: "ranges",
  key: ["ipv4_addr", "inet_proto", "inet_service"],
  interval: true,
  elements: [
    {
      key: concat(Uint8Array.of(10, 0, 0, 0), TCP, Uint8Array.of(0, 80)),
      keyEnd: concat(Uint8Array.of(10, 0, 1, 2), TCP, Uint8Array.of(0, 90)),
    },
  ],
};
const FORWARD: Chain = {
  name: "forward",
  hook: { type: "filter", at: "forward", priority: PRIORITY.filter },
  rules: [
    [...ctStateIs(["established", "related"]), ACCEPT],
    [...ofFamily(4), address(4, "daddr"), lookupVerdict("pods")],
  ],
};
const WEB: Chain = {
  name: "web",
  rules: [
    [...ofFamily(4), address(4, "saddr"), meta("l4proto", 1), destinationPort(2), lookup("ranges"), COUNTER, RETURN],
    [
      meta("l4proto"),
      compare(TCP),
      destinationPort(0),
      compare(Uint8Array.of(0x1f, 0x40), "gte"),
      compare(Uint8Array.of(0x1f, 0x90), "lte"),
      RETURN,
    ],
    [limit(5, 10), logToGroup(26220, "web", 128)],
    [goTo("closed")],
  ],
};
const CLOSED: Chain = { name: "closed", rules: [[COUNTER, DROP]] };

const TEXT = `table inet t {
	map pods {
		type ipv4_addr : verdict
		elements = { 10.244.1.2 : jump web }
	}

	set ranges {
		type ipv4_addr . inet_proto . inet_service
		flags interval
		elements = { 10.0.0.0-10.0.1.2 . tcp . 80-90 }
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		ip daddr vmap @pods
	}

	chain web {
		ip saddr . meta l4proto . th dport @ranges counter packets 0 bytes 0 return
		tcp dport 8000-8080 return
		limit rate 5/second burst 10 packets log prefix "web" group 26220 snaplen 128
		goto closed
	}

	chain closed {
		counter packets 0 bytes 0 drop
	}
}
`;

describe.runIf(canUseKernel())("transactions in a namespace", () => {
  const cleanup = new Cleanup();
  let netns: Netns;
  let transactor: Transactor;
  let netlink: Netlink;

  beforeEach(async () => {
    netns = await createNetns("nft", cleanup);
    transactor = visit(netns, () => Transactor.open(sys, writeAside));
    cleanup.add(() => transactor.close());
    netlink = visit(netns, () => Netlink.open(NETLINK_NETFILTER));
    cleanup.add(() => netlink.close());
  });
  afterEach(() => cleanup.run());

  const nft = (...args: string[]) => run(netns.command("nft", ...args));
  const make = (sets: NftSet[], ...chains: Chain[]) =>
    transactor.transaction(replaceTableAtOnce({ name: "t", sets, chains }));

  test("make maps of verdicts, ranges in concatenations and every instruction of a filter, also again", async () => {
    for (let pass = 0; pass < 2; pass++) {
      await make([MAP, RANGES], FORWARD, WEB, CLOSED);
      expect(await nft("list", "ruleset")).toBe(TEXT);
    }
  });

  test("change elements, rules, chains and sets together", async () => {
    await make([MAP, RANGES], FORWARD, WEB, CLOSED);
    await transactor.transaction([
      ...removeElements("t", "pods", MAP.elements),
      ...addElements("t", "pods", [{ key: POD, jump: "closed" }]),
      ...replaceRules("t", { ...CLOSED, rules: [[DROP]] }),
      ...removeChains("t", ["web"]),
      ...removeSets("t", ["ranges"]),
    ]);
    expect(await nft("list", "ruleset")).toBe(`table inet t {
	map pods {
		type ipv4_addr : verdict
		elements = { 10.244.1.2 : jump closed }
	}

	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
		ip daddr vmap @pods
	}

	chain closed {
		drop
	}
}
`);
  });

  test("are undone as a whole when one request is refused, and say which and why", async () => {
    await make([MAP, RANGES], FORWARD, WEB, CLOSED);
    const attempt = transactor.transaction([
      ...removeElements("t", "pods", MAP.elements),
      ...removeChains("t", ["nobody"]),
      ...addElements("t", "pods", MAP.elements),
    ]);
    await expect(attempt).rejects.toMatchObject({
      code: "NETLINK_REFUSED",
      message: "empty nftables chain t nobody: ENOENT",
    });
    expect(await nft("list", "ruleset")).toBe(TEXT);
    // The socket is good for more.
    await make([], CLOSED);
    expect(await nft("list", "chains")).toContain("chain closed");
  });

  test("are one, however large: ten thousand addresses and five thousand rules at once", async () => {
    const elements = Array.from(
      { length: 10_000 },
      (_, n): Element => ({ key: Uint8Array.of(10, 1, n >> 8, n & 0xff) }),
    );
    const rules = Array.from({ length: 5000 }, () => CLOSED.rules[0] as Chain["rules"][number]);
    await nft("add table inet t; add chain inet t old");
    const before = generationOf((await netlink.request([GET_GENERATION]))[0] as never) as number;
    await make([{ name: "many", key: ["ipv4_addr"], elements }], { name: "long", rules });
    const found = (await netlink.dump(listElements("t", "many"))).flatMap(elementsIn);
    expect(found.length).toBe(10_000);
    expect((await netlink.dump(listRules("t"))).length).toBe(5000);
    const after = generationOf((await netlink.request([GET_GENERATION]))[0] as never) as number;
    expect(after - before).toBe(1);
  });

  test("what is in a table is read back as it was written", async () => {
    await make([MAP, RANGES], FORWARD, WEB, CLOSED);
    await nft("add table inet other; add chain inet other c");
    const chains = (await netlink.dump(LIST_CHAINS)).map(chainOf).filter(({ table }) => table === "t");
    expect(chains).toEqual([
      { table: "t", name: "forward", hook: { number: 2, priority: 0 } },
      { table: "t", name: "web", hook: undefined },
      { table: "t", name: "closed", hook: undefined },
    ]);
    const rules = (await netlink.dump(listRules("t"))).map(foundRule);
    expect(rules.map(({ mark }) => textOfMark(mark as Uint8Array))).toEqual([
      ...["forward 0", "forward 1"],
      ...["web 0", "web 1", "web 2", "web 3"],
      "closed 0",
    ]);
    expect(rules.map(({ counter }) => counter?.packets)).toEqual([
      ...[undefined, undefined],
      ...[0n, undefined, undefined, undefined],
      0n,
    ]);
    expect((await netlink.dump(listSets("t"))).map(setOf).map(({ name }) => name)).toEqual(["pods", "ranges"]);
    const elements = async (set: string) => (await netlink.dump(listElements("t", set))).flatMap(elementsIn);
    expect(await elements("pods")).toEqual([{ key: POD, keyEnd: undefined, chain: "web", intervalEnd: false }]);
    expect(await elements("ranges")).toEqual([{ ...RANGES.elements[0], chain: undefined, intervalEnd: false }]);
  });
});
