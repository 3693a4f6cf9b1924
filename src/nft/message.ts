// SPDX-License-Identifier: Apache-2.0
//
// What every nf_tables message is made of (include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h): nested attributes as
// data, the header, and the two messages that frame a transaction. Numbers are in network order here.
import { Body, type Request } from "../netlink/message.ts";

const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
export const NFPROTO_INET = 1;

/** A type, and a 32-bit number, a string, bytes as they are, or attributes inside. */
export type Attribute = readonly [type: number, value: number | string | Uint8Array | readonly Attribute[]];

/** Appends attributes, nested ones with NLA_F_NESTED. */
export function writeAttributes(body: Body, attributes: readonly Attribute[]): Body {
  for (const [type, value] of attributes) {
    if (typeof value === "number") body.attrU32be(type, value);
    else if (typeof value === "string") body.attrText(type, value);
    else if (value instanceof Uint8Array) body.attr(type, value);
    else body.nest(type, (inner) => writeAttributes(inner, value), true);
  }
  return body;
}

/** struct nfgenmsg: family, version, resource id in network order. */
function nfgen(family: number, resource: number): Body {
  return new Body()
    .u8(family)
    .u8(0)
    .u8(resource >> 8)
    .u8(resource & 0xff);
}

/** One message about a table of family inet. */
export function nftRequest(type: number, flags: number, attributes: readonly Attribute[], what: string): Request {
  return {
    type: (NFNL_SUBSYS_NFTABLES << 8) | type,
    flags,
    body: writeAttributes(nfgen(NFPROTO_INET, 0), attributes).done(),
    what,
  };
}

/** What frames a transaction. */
export const BATCH_BEGIN: Request = {
  type: NFNL_MSG_BATCH_BEGIN,
  flags: 0,
  body: nfgen(0, NFNL_SUBSYS_NFTABLES).done(),
  what: "begin an nftables transaction",
};
export const BATCH_END: Request = { ...BATCH_BEGIN, type: NFNL_MSG_BATCH_END, what: "commit an nftables transaction" };
