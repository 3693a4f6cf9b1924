// SPDX-License-Identifier: Apache-2.0
//
// The daemon's netlink code in a network namespace of a test's: a thread can't leave its own, so it runs in a process there.
import { fileURLToPath } from "node:url";
import type { Message, Request } from "../../src/netlink/message.ts";
import type { Route } from "../../src/netlink/route.ts";
import type { RouteReport } from "../../src/routes/reconcile.ts";
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
  | { readonly call: "reconcile"; readonly desired: readonly Route[] }
  | { readonly call: "podMtu" }
);

/** A NetlinkError as it crosses the process. */
export interface CallError {
  readonly code: string;
  readonly errnoName: string;
  readonly message: string;
}

/** What each call's result is. */
export interface CallResults {
  submit: { what: string; answers: Message[]; error?: CallError }[];
  dump: Message[];
  dumps: Message[][];
  transaction: null;
  reconcile: RouteReport;
  podMtu: number;
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

/** JSON with bytes in it. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, item: unknown) =>
    item instanceof Uint8Array ? { hex: Buffer.from(item).toString("hex") } : item,
  );
}

export function fromJson(text: string): unknown {
  return JSON.parse(text, (_key, item: { hex?: unknown } | null) =>
    typeof item?.hex === "string" ? new Uint8Array(Buffer.from(item.hex, "hex")) : item,
  );
}
