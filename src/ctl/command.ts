// SPDX-License-Identifier: Apache-2.0
//
// What every command does around its work: options read, the daemon connected and let go, failures told.
import { parseArgs } from "node:util";
import { DaemonClient } from "./daemon-client.ts";
import { CtlError, exitStatus } from "./errors.ts";
import type { CtlWorld } from "./world.ts";

/** Names of options, and whether each takes a value. */
export type OptionNames = Readonly<Record<string, "string" | "boolean">>;

export interface ParsedOptions {
  readonly values: Readonly<Record<string, string | boolean | undefined>>;
  readonly words: readonly string[];
}

/**
 * @param words names of the words that have to be there, and behind them, in brackets, of those that may
 * @throws CtlError CTL_USAGE naming what is wrong, also when there are more or fewer words than that
 */
export function readOptions(
  args: readonly string[],
  options: OptionNames,
  words: readonly string[] = [],
): ParsedOptions {
  let parsed: { values: Record<string, string | boolean | undefined>; positionals: string[] };
  try {
    parsed = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: Object.fromEntries(Object.entries(options).map(([name, type]) => [name, { type }])),
    }) as typeof parsed;
  } catch (cause) {
    throw new CtlError("CTL_USAGE", cause instanceof Error ? cause.message : String(cause), cause);
  }
  const missing = words[parsed.positionals.length];
  if (missing !== undefined && !missing.startsWith("[")) throw new CtlError("CTL_USAGE", `${missing} is missing`);
  const surplus = parsed.positionals[words.length];
  if (surplus !== undefined) throw new CtlError("CTL_USAGE", `${JSON.stringify(surplus)} is one word too many`);
  return { values: parsed.values, words: parsed.positionals };
}

/** Runs `work` with the daemon on this socket. */
export async function withDaemon<T>(socket: string, work: (daemon: DaemonClient) => Promise<T>): Promise<T> {
  const daemon = await DaemonClient.connect(socket);
  try {
    return await work(daemon);
  } finally {
    daemon.close();
  }
}

/** Runs a command and turns what it throws into a line on stderr and an exit status. */
export async function reporting(name: string, world: CtlWorld, work: () => Promise<number>): Promise<number> {
  // Whoever read the words may leave, as in `flatnetctl ipam show | head`.
  for (const output of [world.stdout, world.stderr]) output.on?.("error", () => {});
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof CtlError)) throw error;
    world.stderr.write(`flatnetctl ${name}: ${error.message}\n`);
    return exitStatus(error);
  }
}
