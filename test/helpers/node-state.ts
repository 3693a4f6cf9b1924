// SPDX-License-Identifier: Apache-2.0
//
// Everything of a node that flatnet could change: its network namespace as iproute2, nft and /proc/sys tell it, and files.
import { createHash } from "node:crypto";
import { lstatSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./daemon.ts";
import { inNetns, type Netns } from "./netns.ts";

export interface NodeState {
  readonly links: unknown;
  readonly addresses: unknown;
  readonly routes: unknown;
  readonly rules: unknown;
  /** Those that somebody made; the kernel learns others as it talks. */
  readonly neighbours: unknown;
  readonly ruleset: string;
  /** Lines of their files below /proc/sys/net. */
  readonly sysctls: readonly string[];
  readonly files: Readonly<Record<string, string>>;
}

/** A value of the moment, and not a setting. */
const MEASURED = /nf_conntrack_count:/;

/** Those that can't be read, by nobody or before they were written, are passed over. */
const READ_SYSCTLS = "cd /proc/sys/net && { grep -rs '' . || true; }";

/** @param directories whose files belong to it */
export async function readNodeState(netns: Netns, directories: readonly string[]): Promise<NodeState> {
  const ip = async (...args: string[]) => JSON.parse((await netns.ip("-d", "-json", ...args)) || "[]");
  const both = async (...args: string[]) => [await ip("-4", ...args), await ip("-6", ...args)];
  const sysctls = (await run(inNetns(netns.path, "bash", "-c", READ_SYSCTLS))).split("\n").sort();
  return {
    links: await ip("link", "show"),
    addresses: await ip("address", "show"),
    routes: await both("route", "show", "table", "all"),
    rules: await both("rule", "show"),
    neighbours: await both("neighbour", "show", "nud", "permanent"),
    ruleset: await run(inNetns(netns.path, "nft", "list", "ruleset")),
    sysctls: sysctls.filter((line) => !MEASURED.test(line)),
    files: Object.fromEntries(directories.flatMap(filesIn)),
  };
}

/** Paths, with what each is. */
function filesIn(directory: string): [string, string][] {
  return readdirSync(directory).flatMap((name): [string, string][] => {
    const path = join(directory, name);
    const stats = lstatSync(path);
    if (stats.isDirectory()) return [[path, "directory"], ...filesIn(path)];
    const content = stats.isFile() ? createHash("sha256").update(readFileSync(path)).digest("hex") : "no file";
    return [[path, `${stats.mode.toString(8)} ${content}`]];
  });
}
