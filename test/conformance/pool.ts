// SPDX-License-Identifier: Apache-2.0
//
// A network that can be filled: whether an address was released shows only when there is no other left.

import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { ipamOf, isObject, type PluginConf, type Request } from "./conf.ts";
import { type Added, documentOf, type Pod, type RuleContext } from "./context.ts";
import type { Call } from "./plugin.ts";
import { readResult } from "./result.ts";
import { NotSupported } from "./rule.ts";

export interface Pool {
  readonly size: number;
  /** Keys on top of the request that make the network so small. */
  readonly conf: Request;
}

/** More calls than this are not worth what they show. */
const POOL_MAX = 256;
const SMALL = 4;
const IN_FLIGHT = 4;

/** @throws NotSupported when nobody knows how to make the network small, or how small it is. */
export function poolOf({ settings, sandbox }: RuleContext): Pool {
  const small = shrinkHostLocal(settings.conf, join(sandbox.directory, `pool-${randomBytes(4).toString("hex")}`));
  if (small !== undefined) return { size: SMALL, conf: small };
  if (settings.poolSize === undefined) throw new NotSupported("the network's size is not known (--pool-size)");
  if (settings.poolSize > POOL_MAX) throw new NotSupported(`more than ${POOL_MAX} addresses would have to be taken`);
  return { size: settings.poolSize, conf: {} };
}

/** host-local with four addresses and a store of its own, or undefined when it isn't host-local. */
export function shrinkHostLocal(conf: PluginConf, dataDir: string): Request | undefined {
  const ipam = ipamOf(conf);
  if (ipam?.["type"] !== "host-local") return undefined;
  const { subnet, ranges, rangeStart: _start, rangeEnd: _end, ...others } = ipam;
  const sets = Array.isArray(ranges) ? ranges : [];
  const narrowed = {
    ...(typeof subnet === "string" ? { subnet, ...narrow(subnet) } : {}),
    ...(sets.length === 0
      ? {}
      : {
          ranges: sets.map(([range]) => {
            return isObject(range) ? [{ ...range, ...narrow(String(range["subnet"])) }] : [];
          }),
        }),
  };
  return { name: `${conf.name}-pool`, ipam: { ...others, ...narrowed, dataDir } };
}

function narrow(subnet: string): { rangeStart: string; rangeEnd: string } {
  const [base = ""] = subnet.split("/");
  if (base.includes(":")) {
    const prefix = base.endsWith("::") ? base : `${base.replace(/:[^:]*$/, "")}:`;
    return { rangeStart: `${prefix}a`, rangeEnd: `${prefix}d` };
  }
  const octets = base.split(".");
  const last = Number(octets.pop());
  const at = (offset: number) => [...octets, String(last + offset)].join(".");
  return { rangeStart: at(10), rangeEnd: at(10 + SMALL - 1) };
}

export interface Filled {
  /** ADDs that went well. */
  readonly added: readonly Added[];
  /** The first that did not, within the size. */
  readonly failed: Call | undefined;
}

/** ADDs as many new pods as there are addresses, or until one fails. */
export async function fill(context: RuleContext, pool: Pool, count = pool.size): Promise<Filled> {
  const added: Added[] = [];
  let failed: Call | undefined;
  let left = count;
  const worker = async (): Promise<void> => {
    while (left > 0 && failed === undefined) {
      left--;
      const pod: Pod = await context.newPod();
      const call = await context.call("ADD", { pod, conf: pool.conf });
      const document = call.status === 0 ? documentOf(call) : undefined;
      if (document === undefined) failed ??= call;
      else added.push({ pod, call, result: readResult(document, context.spec) });
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  return { added, failed };
}

/** Does something for each, a few at a time. */
export async function forEach<T, R>(items: readonly T[], work: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  const queue = [...items];
  const worker = async (): Promise<void> => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) results.push(await work(item));
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
  return results;
}

/** Addresses that more than one attachment has. */
export function sharedAddresses(added: readonly Added[]): string[] {
  const holders = new Map<string, number>();
  for (const { result } of added) {
    for (const { address } of result.addresses) holders.set(address, (holders.get(address) ?? 0) + 1);
  }
  return [...holders].flatMap(([address, count]) => (count > 1 ? [`${count} containers have ${address}`] : []));
}
