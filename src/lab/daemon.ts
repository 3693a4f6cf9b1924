// SPDX-License-Identifier: Apache-2.0
//
// The node's real daemon, in the node's namespace, with files of its own.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, open, readFile, writeFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { stringify } from "yaml";
import { bgpConfig } from "./bgp.ts";
import { LabError } from "./errors.ts";
import { lastLines } from "./lines.ts";
import { nodePaths } from "./state.ts";
import type { LabNode, Topology } from "./topology.ts";

/** How long a daemon may take until it serves. */
const START_TIMEOUT_MS = 30_000;
/** How long it may take to end. */
const STOP_TIMEOUT_MS = 5000;
/** Lines of a dead daemon's log that are shown. */
const LOG_LINES = 12;

/** The peers file: every node of the lab, the reader's own included. */
export function peersFile(topology: Topology): string {
  return stringify({
    nodes: topology.nodes.map(({ name, addresses, podCIDRs }) => ({ name, addresses, podCIDRs })),
  });
}

/** The daemon's command line. */
export function daemonArgs(topology: Topology, node: LabNode): string[] {
  const paths = nodePaths(topology.name, node.name);
  return [
    ...["--node-name", node.name],
    ...node.podCIDRs.flatMap((cidr) => ["--pod-cidr", cidr]),
    ...["--state-dir", paths.stateDir],
    ...["--socket", paths.socket],
    ...["--peers", paths.peers],
    ...(topology.underlay.kind === "bgp" ? ["--config", paths.config] : []),
    ...["--log-level", "info"],
  ];
}

/** A daemon that serves. */
export interface LabDaemon {
  readonly node: string;
  /** Ends it as systemd would. Resolves to what was wrong with that, also when it was gone already; undefined if nothing. */
  stop(): Promise<string | undefined>;
}

/**
 * Starts the node's daemon and returns when it serves. It belongs to its namespace from then on: sweep ends it too, and a
 * kept lab's daemon outlives this process.
 * @throws LabError LAB_DAEMON_FAILED with the end of its log.
 */
export async function startDaemon(
  topology: Topology,
  node: LabNode,
  program: string,
  signal: AbortSignal,
): Promise<LabDaemon> {
  const paths = nodePaths(topology.name, node.name);
  await mkdir(paths.journalDir, { recursive: true, mode: 0o700 });
  await mkdir(paths.stateDir, { recursive: true, mode: 0o700 });
  await writeFile(paths.peers, peersFile(topology), { mode: 0o600 });
  if (topology.underlay.kind === "bgp") await writeFile(paths.config, bgpConfig(topology, node), { mode: 0o600 });
  signal.throwIfAborted();
  const log = await open(paths.log, "a", 0o600);
  let child: ChildProcess;
  try {
    const words = ["netns", "exec", node.namespace, program, ...daemonArgs(topology, node)];
    child = spawn("ip", words, { detached: true, stdio: ["ignore", log.fd, log.fd] });
  } finally {
    await log.close();
  }
  child.unref();
  let ended: string | undefined;
  let over: { why: string; cause?: unknown } | undefined;
  child.on("error", (cause) => {
    over = { why: `did not start: ${cause.message}`, cause };
  });
  child.on("exit", (code, by) => {
    ended = by ?? `exit code ${code}`;
    over = { why: `ended before it served (${ended})` };
  });
  const until = Date.now() + START_TIMEOUT_MS;
  while (!isServing(await readFile(paths.log, "utf8"))) {
    // Looked at after the log, so that the log is complete when it is shown.
    if (over === undefined && Date.now() > until) over = { why: `did not serve within ${START_TIMEOUT_MS} ms` };
    if (over !== undefined) {
      throw new LabError("LAB_DAEMON_FAILED", `flatnetd of ${node.name} ${over.why}`, {
        cause: over.cause,
        detail: await daemonLog(topology.name, node.name),
      });
    }
    await sleep(15, undefined, { signal });
  }
  return {
    node: node.name,
    async stop() {
      if (ended !== undefined) return `flatnetd of ${node.name} ended by itself (${ended})`;
      child.kill("SIGTERM");
      const until = Date.now() + STOP_TIMEOUT_MS;
      while (ended === undefined && Date.now() < until) await sleep(10);
      if (ended === undefined) return `flatnetd of ${node.name} did not end within ${STOP_TIMEOUT_MS} ms of SIGTERM`;
      return ended === "exit code 0" ? undefined : `flatnetd of ${node.name} did not end cleanly (${ended})`;
    },
  };
}

/** Whether the log has the line that says so: JSON with msg "serving". */
export function isServing(log: string): boolean {
  return log.split("\n").some((line) => {
    if (!line.includes('"serving"')) return false;
    try {
      return (JSON.parse(line) as { msg?: unknown } | null)?.msg === "serving";
    } catch {
      // The last line may be half-written; it is read again.
      return false;
    }
  });
}

/** The last lines of the node's daemon log. */
export async function daemonLog(labName: string, node: string): Promise<string[]> {
  try {
    return lastLines(await readFile(nodePaths(labName, node).log, "utf8"), LOG_LINES);
  } catch {
    return ["(its log cannot be read)"];
  }
}
