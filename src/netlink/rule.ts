// SPDX-License-Identifier: Apache-2.0
//
// Routing policy rules: struct fib_rule_hdr and FRA_* of include/uapi/linux/fib_rules.h.
import { type Family, formatAddress, hostLength } from "../net/address.ts";
import { attributes, attrU32, Body, type Message, NLM_F_CREATE, NLM_F_EXCL, type Request } from "./message.ts";
import { AF_INET, AF_INET6, addressFamily } from "./route.ts";

export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
const RTM_GETRULE = 34;
const FR_ACT_TO_TBL = 1;
const FRA_SRC = 2;
const FRA_PRIORITY = 6;
const FRA_TABLE = 15;
const FRA_PROTOCOL = 21;

/** Packets from one address are routed by a table of their own. */
export interface SourceRule {
  /** 4 or 16 bytes. */
  readonly source: Uint8Array;
  readonly table: number;
  /** Lower comes first; the main table is at 32766. */
  readonly priority: number;
  /** As a route's. */
  readonly protocol: number;
}

/** What names a rule whose source isn't known. */
export type RuleKey = Omit<SourceRule, "source"> & { readonly family: Family };

/** `ip rule add from ADDRESS lookup TABLE`: EEXIST when there is such a rule. */
export function addSourceRule(rule: SourceRule): Request {
  const { source, table } = rule;
  const body = header(addressFamily(source), source.length * 8).attr(FRA_SRC, source);
  return {
    type: RTM_NEWRULE,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    body: key(body, rule).done(),
    what: `add rule from ${formatAddress(source)} lookup ${table}`,
  };
}

/** `ip rule del lookup TABLE`, of the first rule with this key. ENOENT when there is none. */
export function deleteRule(rule: RuleKey): Request {
  const body = key(header(rule.family === 4 ? AF_INET : AF_INET6, 0), rule);
  return {
    type: RTM_DELRULE,
    flags: 0,
    body: body.done(),
    what: `delete the IPv${rule.family} rule lookup ${rule.table}`,
  };
}

/** All rules of a family. */
export function dumpRules(family: Family): Request {
  return {
    type: RTM_GETRULE,
    flags: 0,
    body: header(family === 4 ? AF_INET : AF_INET6, 0).done(),
    what: `list IPv${family} rules`,
  };
}

/** Reads an RTM_NEWRULE message of a rule for one address; undefined when it is anything else. */
export function decodeSourceRule(message: Message): SourceRule | undefined {
  const { body, type } = message;
  if (type !== RTM_NEWRULE || body.length < 12 || body[7] !== FR_ACT_TO_TBL) return undefined;
  const family = body[0] === AF_INET ? 4 : body[0] === AF_INET6 ? 6 : undefined;
  const found = attributes(body.subarray(12));
  const source = found.get(FRA_SRC);
  if (family === undefined || source === undefined || body[2] !== hostLength(family)) return undefined;
  return {
    source: source.slice(),
    table: attrU32(found.get(FRA_TABLE)) ?? (body[4] as number),
    priority: attrU32(found.get(FRA_PRIORITY)) ?? 0,
    protocol: found.get(FRA_PROTOCOL)?.[0] ?? 0,
  };
}

/** struct fib_rule_hdr: family, dst_len, src_len, tos, table, res1, res2, action, flags. The table is an attribute. */
function header(family: number, sourceLength: number): Body {
  const action = sourceLength === 0 ? 0 : FR_ACT_TO_TBL;
  return new Body().u8(family).u8(0).u8(sourceLength).u8(0).u8(0).u8(0).u8(0).u8(action).u32(0);
}

function key(body: Body, { table, priority, protocol }: Omit<SourceRule, "source">): Body {
  return body
    .attrU32(FRA_TABLE, table)
    .attrU32(FRA_PRIORITY, priority)
    .attr(FRA_PROTOCOL, new Uint8Array([protocol]));
}
