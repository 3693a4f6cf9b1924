// SPDX-License-Identifier: Apache-2.0
//
// What the kernel says to these questions is in host-ports.kernel.test.ts; here is what is made of answers that it is hard
// to get from one.
import { expect, test } from "vitest";
import type { Reply } from "../netlink/event-loop.ts";
import { NetlinkError } from "../netlink/message.ts";
import { addElements, type Element } from "../nft/table.ts";
import { entriesOf } from "./entries.ts";
import { type Part, partsOf, problemsOf } from "./inspection.ts";
import { NEEDED_CHAINS } from "./ruleset.ts";

const ENTRIES = entriesOf({
  attachment: { network: "n", containerId: "web", ifname: "eth0" },
  addresses: ["10.77.1.2"],
  portMappings: [{ hostPort: 8080, containerPort: 80, protocol: "tcp", hostIp: "" }],
});
const ELEMENTS = partsOf(ENTRIES).filter(({ within }) => within?.startsWith("set "));

function refused(errno: number): NetlinkError {
  return NetlinkError.refused("look up", errno, "");
}

/** The kernel's answer to a lookup has the form of what adds the element. */
function found({ request }: Part, element: Element): Reply {
  const [{ body } = request] = addElements("flatnet", "any", [element]);
  return { request, answers: [{ type: 0, flags: 0, seq: 1, body }], error: undefined };
}

test("elements as they should be are no problem", () => {
  const replies = ELEMENTS.map((part, i) => found(part, ENTRIES[i] as Element));
  expect(problemsOf(ELEMENTS, replies, [])).toEqual([]);
});

test("a port whose data is none of ours leads nowhere", () => {
  const replies = ELEMENTS.map((part, i) => found(part, { key: (ENTRIES[i] as Element).key }));
  expect(problemsOf(ELEMENTS, replies, [])).toEqual(["hostPort 8080/tcp leads to nowhere, and not to 10.77.1.2:80"]);
});

test("a lookup that is granted without an answer found nothing", () => {
  const replies = ELEMENTS.map(({ request }) => ({ request, answers: [], error: undefined }));
  expect(problemsOf(ELEMENTS, replies, [])).toEqual(ELEMENTS.map(({ missing }) => missing));
});

test("a kernel that does not say is no agreement, and no difference", () => {
  const EPERM = 1;
  const replies = ELEMENTS.map(({ request }) => ({ request, answers: [], error: refused(EPERM) }));
  expect(() => problemsOf(ELEMENTS, replies, [])).toThrow("look up: EPERM");
});

test("rules of a chain in another order are told, and those of other chains are nobody's business", () => {
  const chains = partsOf(ENTRIES).filter(({ id }) => id.startsWith("chain "));
  const replies = chains.map(({ request }) => ({
    request,
    answers: [{ type: 0, flags: 0, seq: 1, body: new Uint8Array(4) }],
    error: undefined,
  }));
  const rules = NEEDED_CHAINS.flatMap(({ name, marks }) => marks.map((mark) => ({ chain: name, mark })));
  expect(problemsOf(chains, replies, [...rules, { chain: "stray" }])).toEqual([]);
  const first = rules.filter(({ chain }) => chain === "hostport").slice(0, 1);
  expect(problemsOf(chains, replies, [...rules.filter((rule) => !first.includes(rule)), ...first])).toEqual([
    "chain hostport of nftables table inet flatnet has its rules in another order",
  ]);
});

test("without the table nothing is told but that, whatever is asked about", () => {
  const ENOENT = 2;
  const parts = partsOf(ENTRIES);
  const replies = parts.map(({ request }) => ({ request, answers: [], error: refused(ENOENT) }));
  expect(problemsOf(parts, replies, [])).toEqual(["there is no nftables table inet flatnet"]);
});
