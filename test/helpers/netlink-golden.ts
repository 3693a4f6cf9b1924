// SPDX-License-Identifier: Apache-2.0
//
// Requests of ours against those that iproute2 6.1 sends for the same purpose, as `strace -xx -e trace=sendmsg` showed them.
import { expect } from "vitest";
import type { Request } from "../../src/netlink/message.ts";
import { fromHex, toHex } from "./hex.ts";

/** One request of iproute2: its message type, flags without NLM_F_REQUEST and NLM_F_ACK, and body without header. */
export interface Sent {
  readonly type: number;
  readonly flags: number;
  readonly body: string;
}

/** Expects exactly iproute2's bytes. */
export function expectSent({ type, flags, body }: Request, sent: Sent): void {
  expect({ type, flags, body: toHex(body) }).toEqual({ ...sent, body: toHex(fromHex(sent.body)) });
}

/**
 * Expects iproute2's bytes but for the order of the attributes, which the kernel doesn't look at.
 * @param fixed bytes of the struct before the attributes
 */
export function expectSentInAnyOrder({ type, flags, body }: Request, sent: Sent, fixed: number): void {
  expect({ type, flags, ...parts(body, fixed) }).toEqual({
    type: sent.type,
    flags: sent.flags,
    ...parts(fromHex(sent.body), fixed),
  });
}

function parts(body: Uint8Array, fixed: number) {
  const attributes: string[] = [];
  let rest = body.subarray(fixed);
  while (rest.length >= 4) {
    const length = ((rest[0] as number) | ((rest[1] as number) << 8)) + 3;
    attributes.push(Buffer.from(rest.subarray(0, length & ~3)).toString("hex"));
    rest = rest.subarray(length & ~3);
  }
  return { struct: toHex(body.subarray(0, fixed)), attributes: attributes.sort(), rest: toHex(rest) };
}
