// SPDX-License-Identifier: Apache-2.0
//
// The node's anti-spoofing rule as nf_tables netlink messages (include/uapi/linux/netfilter/nf_tables.h). One rule serves
// every pod: a packet from a host end is dropped unless the route back to its source leads out of that same host end, and
// ADD makes such a route for the pod's own addresses only. In nft's words:
//
//   table inet flatnet {
//     chain antispoof {
//       type filter hook prerouting priority raw; policy accept;
//       iifgroup 26220 fib saddr . iif oif missing counter drop
//     }
//   }
//
// Netlink and not `nft -f -`, so that a node needs no nft binary for it.
import { LINK_GROUP, NFT_TABLE } from "../net/names.ts";
import { Body, NLM_F_APPEND, NLM_F_CREATE, type Request } from "../netlink/message.ts";

const NFNL_SUBSYS_NFTABLES = 10;
const NFNL_MSG_BATCH_BEGIN = 16;
const NFNL_MSG_BATCH_END = 17;
const NFPROTO_INET = 1;

const NFT_MSG_NEWTABLE = 0;
const NFT_MSG_DELTABLE = 2;
const NFT_MSG_NEWCHAIN = 3;
const NFT_MSG_NEWRULE = 6;

const NFTA_TABLE_NAME = 1;
const NFTA_CHAIN_TABLE = 1;
const NFTA_CHAIN_NAME = 3;
const NFTA_CHAIN_HOOK = 4;
const NFTA_CHAIN_POLICY = 5;
const NFTA_CHAIN_TYPE = 7;
const NFTA_HOOK_HOOKNUM = 1;
const NFTA_HOOK_PRIORITY = 2;
const NFTA_RULE_TABLE = 1;
const NFTA_RULE_CHAIN = 2;
const NFTA_RULE_EXPRESSIONS = 4;
const NFTA_LIST_ELEM = 1;
const NFTA_EXPR_NAME = 1;
const NFTA_EXPR_DATA = 2;

const NF_INET_PRE_ROUTING = 0;
const PRIORITY_RAW = -300;
const NF_DROP = 0;
const NF_ACCEPT = 1;

const NFT_REG_VERDICT = 0;
const NFT_REG_1 = 1;
const NFT_META_IIFGROUP = 21;
const NFT_CMP_EQ = 0;
const NFT_FIB_RESULT_OIF = 1;
const NFTA_FIB_F_SADDR = 1;
const NFTA_FIB_F_IIF = 8;
const NFTA_FIB_F_PRESENT = 32;

const CHAIN = "antispoof";

/** struct nfgenmsg: family, version, resource id in network order. */
function nfgen(family: number, resource = 0): Body {
  return new Body()
    .u8(family)
    .u8(0)
    .u8(resource >> 8)
    .u8(resource & 0xff);
}

function request(type: number, flags: number, body: Body, what: string): Request {
  return { type: (NFNL_SUBSYS_NFTABLES << 8) | type, flags, body: body.done(), what };
}

/** What frames a transaction. */
export const BATCH_BEGIN: Request = {
  type: NFNL_MSG_BATCH_BEGIN,
  flags: 0,
  body: nfgen(0, NFNL_SUBSYS_NFTABLES).done(),
  what: "begin an nftables transaction",
};
export const BATCH_END: Request = { ...BATCH_BEGIN, type: NFNL_MSG_BATCH_END, what: "commit an nftables transaction" };

/** Appends one expression of a rule: its name and its attributes. */
function expression(list: Body, name: string, fill: (data: Body) => void): void {
  list.nest(
    NFTA_LIST_ELEM,
    (element) => element.attrText(NFTA_EXPR_NAME, name).nest(NFTA_EXPR_DATA, (data) => fill(data), true),
    true,
  );
}

const u32 = (value: number) => new Uint8Array(new Uint32Array([value]).buffer);

/** `[ cmp eq reg 1 VALUE ]`, the value in host order as meta and fib leave it. */
function compare(list: Body, value: number): void {
  expression(list, "cmp", (data) =>
    data
      .attrU32be(1, NFT_REG_1)
      .attrU32be(2, NFT_CMP_EQ)
      .nest(3, (operand) => operand.attr(1, u32(value)), true),
  );
}

/**
 * The requests of one transaction that leaves exactly this ruleset in the table, whatever was in it: made so that it can
 * be deleted, deleted, made again.
 */
export function antispoofRequests(): Request[] {
  const table = () => nfgen(NFPROTO_INET).attrText(NFTA_TABLE_NAME, NFT_TABLE);
  const chain = nfgen(NFPROTO_INET)
    .attrText(NFTA_CHAIN_TABLE, NFT_TABLE)
    .attrText(NFTA_CHAIN_NAME, CHAIN)
    .nest(
      NFTA_CHAIN_HOOK,
      (hook) =>
        hook.attrU32be(NFTA_HOOK_HOOKNUM, NF_INET_PRE_ROUTING).attrU32be(NFTA_HOOK_PRIORITY, PRIORITY_RAW >>> 0),
      true,
    )
    .attrU32be(NFTA_CHAIN_POLICY, NF_ACCEPT)
    .attrText(NFTA_CHAIN_TYPE, "filter");
  const rule = nfgen(NFPROTO_INET)
    .attrText(NFTA_RULE_TABLE, NFT_TABLE)
    .attrText(NFTA_RULE_CHAIN, CHAIN)
    .nest(
      NFTA_RULE_EXPRESSIONS,
      (list) => {
        // [ meta load iifgroup => reg 1 ]
        expression(list, "meta", (data) => data.attrU32be(1, NFT_REG_1).attrU32be(2, NFT_META_IIFGROUP));
        compare(list, LINK_GROUP);
        // [ fib saddr . iif oif present => reg 1 ]: 1 when the route back leads out of where the packet came from.
        const flags = NFTA_FIB_F_SADDR | NFTA_FIB_F_IIF | NFTA_FIB_F_PRESENT;
        expression(list, "fib", (data) =>
          data.attrU32be(1, NFT_REG_1).attrU32be(2, NFT_FIB_RESULT_OIF).attrU32be(3, flags),
        );
        compare(list, 0);
        expression(list, "counter", () => {});
        // [ immediate reg 0 drop ]
        expression(list, "immediate", (data) =>
          data
            .attrU32be(1, NFT_REG_VERDICT)
            .nest(2, (value) => value.nest(2, (verdict) => verdict.attrU32be(1, NF_DROP), true), true),
        );
      },
      true,
    );
  return [
    request(NFT_MSG_NEWTABLE, NLM_F_CREATE, table(), `make nftables table ${NFT_TABLE}`),
    request(NFT_MSG_DELTABLE, 0, table(), `clear nftables table ${NFT_TABLE}`),
    request(NFT_MSG_NEWTABLE, NLM_F_CREATE, table(), `make nftables table ${NFT_TABLE}`),
    request(NFT_MSG_NEWCHAIN, NLM_F_CREATE, chain, `make nftables chain ${NFT_TABLE} ${CHAIN}`),
    request(
      NFT_MSG_NEWRULE,
      NLM_F_CREATE | NLM_F_APPEND,
      rule,
      `make the rule of nftables chain ${NFT_TABLE} ${CHAIN}`,
    ),
  ];
}

/** The requests of one transaction that leaves no table of ours, whether there was one or not. */
export function removeTableRequests(): Request[] {
  return antispoofRequests().slice(0, 2);
}
