// SPDX-License-Identifier: Apache-2.0
//
// The daemon's netlink code in a network namespace of a test's: a thread can't leave its own, so it runs in a process there.
import { fileURLToPath } from "node:url";
import type { Message, Request } from "../../src/netlink/message.ts";
import type { Node, Self } from "../../src/routes/source.ts";
import { run } from "./daemon.ts";
import type { Netns } from "./netns.ts";

/** One call, with the netlink protocol of its socket. */
export type NetlinkCall = { readonly protocol: number } & (
  | { readonly call: "submit"; readonly requests: readonly Request[] }
  | { readonly call: "dump"; readonly request: Request }
  /** Dumps that are asked for at the same moment. */
  | { readonly call: "dumps"; readonly requests: readonly Request[] }
  | {
      readonly call: "transaction";
      readonly begin: Request;
      readonly requests: readonly Request[];
      readonly end: Request;
    }
  /** Passes of a reconciler, one after the other; of nodes that are not known yet, undefined. */
  | {
      readonly call: "reconcile";
      readonly self: Self;
      readonly passes: readonly (readonly Node[] | undefined)[];
      /** How many of them, from the first on, have nodes that are only restored. */
      readonly restored?: number;
      readonly table?: number;
      readonly podMtu?: number;
    }
);

/** A NetlinkError as it crosses the process. */
export interface CallError {
  readonly code: string;
  readonly errnoName: string;
  readonly message: string;
}

/** What the last pass did, and what is so after it. Routes and subnets as people read them. */
export interface ReconcileResult {
  readonly set: readonly string[];
  readonly removed: readonly string[];
  /** Of ways that are not installed: `10.244.2.0/24 of n2: conflict: …`. */
  readonly broken: readonly string[];
  /** In bytes. */
  readonly mtu: number;
  /** How many requests the last pass sent. */
  readonly requests: number;
}

/** What each call's result is. */
export interface CallResults {
  submit: { what: string; answers: Message[]; error?: CallError }[];
  dump: Message[];
  dumps: Message[][];
  transaction: null;
  reconcile: ReconcileResult;
}

export type Outcome<T> =
  | { readonly result: T; readonly error?: never }
  | { readonly result?: never; readonly error: CallError };

const SCRIPT = fileURLToPath(new URL("netlink.script.ts", import.meta.url));

/** Makes the call inside the namespace. `prefix` is put before the command, to run it with less than root has. */
export async function callNetlink<C extends NetlinkCall>(
  netns: Netns,
  call: C,
  prefix: readonly string[] = [],
): Promise<Outcome<CallResults[C["call"]]>> {
  const output = await run(netns.command(...prefix, process.execPath, SCRIPT), { input: toJson(call) });
  return fromJson(output) as Outcome<CallResults[C["call"]]>;
}

/** JSON with bytes and large numbers in it. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    item instanceof Uint8Array
      ? { hex: Buffer.from(item).toString("hex") }
      : typeof item === "bigint"
        ? { bigint: item.toString() }
        : item,
  );
}

export function fromJson(text: string): unknown {
  return JSON.parse(text, (_key, item: { hex?: unknown; bigint?: unknown } | null) => {
    if (typeof item?.hex === "string") return new Uint8Array(Buffer.from(item.hex, "hex"));
    return typeof item?.bigint === "string" ? BigInt(item.bigint) : item;
  });
}
