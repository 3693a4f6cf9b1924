// SPDX-License-Identifier: Apache-2.0
//
// Where it is measured, and beside what.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, totalmem } from "node:os";
import { ROOT } from "../scripts/repo.ts";

export interface Machine {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGB: number;
  readonly kernel: string;
  /** "Debian GNU/Linux 12 (bookworm)". */
  readonly system: string;
  /** Of the last minute before the run: how quiet it was. */
  readonly load: number;
  readonly node: string;
  /** The packages that the peers are of, with their versions. Without those that Debian's dpkg doesn't know. */
  readonly packages: Readonly<Record<string, string>>;
}

const PEERS = ["containernetworking-plugins", "iproute2", "iptables", "iperf3", "sockperf"];

export function thisMachine(): Machine {
  const system = /^PRETTY_NAME="?([^"\n]*)/m.exec(readFileSync("/etc/os-release", "utf8"))?.[1];
  return {
    cpu: cpus()[0]?.model.trim() ?? "unknown",
    cores: cpus().length,
    memoryGB: Math.round(totalmem() / 1e9),
    kernel: readFileSync("/proc/sys/kernel/osrelease", "utf8").trim(),
    system: system ?? "unknown",
    load: loadavg()[0] as number,
    node: process.version,
    packages: Object.fromEntries(PEERS.flatMap((name) => versionOf(name).map((version) => [name, version]))),
  };
}

/** What is measured, as git names it: "abc1234", or "abc1234-dirty" where that isn't all. */
export function thisCommit(): string {
  const argv = ["describe", "--always", "--dirty", "--exclude=*"];
  return execFileSync("git", argv, { cwd: ROOT, encoding: "utf8" }).trim();
}

/** None on a system without dpkg, or without the package. */
function versionOf(name: string): string[] {
  try {
    // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own placeholder.
    const argv = ["--show", "--showformat=${Version}", name];
    const version = execFileSync("dpkg-query", argv, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
    return version === "" ? [] : [version];
  } catch {
    return [];
  }
}
