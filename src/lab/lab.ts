// SPDX-License-Identifier: Apache-2.0
//
// `flatnetctl lab`: a cluster of network namespaces with the real plugin and the real daemons, a proof that its network is
// flat, and nothing left of it afterwards, however it ends.
import { addedAddresses, pluginFailed, pluginRun } from "./attach.ts";
import { requireBird, startRouter, waitForRoutes } from "./bgp.ts";
import { isSampled } from "./cells.ts";
import { inParallel } from "./concurrency.ts";
import { daemonLog, type LabDaemon, startDaemon } from "./daemon.ts";
import { COLOURED, drawMatrix, drawTopology, type Palette, PLAIN } from "./drawing.ts";
import { LabError, messageOf } from "./errors.ts";
import { LabHost } from "./host-client.ts";
import { listLeftovers } from "./leftovers.ts";
import { makeNetwork } from "./network.ts";
import { LAB_USAGE, type LabCommand, parseLabArgs } from "./options.ts";
import { type Proof, prove } from "./proof.ts";
import { describeAdds, summarize, toReport } from "./report.ts";
import { createScreen, NO_SCREEN, type Output, type Screen, widthOf } from "./screen.ts";
import { type LabState, labDir, lockLab, nodePaths, readState, routerPaths, writeState } from "./state.ts";
import { isAnythingLeft, listNamespaces, sweep } from "./sweep.ts";
import { endsOf, namespacesOf, planTopology, type Topology, withPodAddresses } from "./topology.ts";
import { count, judge, type Verdict } from "./verdict.ts";

/** What the lab needs to know of the world; the entry point reads it from argv and env. */
export interface LabWorld {
  readonly stdout: Output;
  readonly stderr: Output;
  /** Whether stdout may have colours. */
  readonly color: boolean;
  /** The effective user ID; the lab is for root. */
  readonly uid: number;
  /** Path of the plugin, `flatnet`. */
  readonly plugin: string;
  /** Path of the daemon, `flatnetd`. */
  readonly daemon: string;
  /** How to start this program: its path, and before it the runtime's when it is run from source. */
  readonly selfCommand: readonly string[];
  /** Aborted on Ctrl-C and SIGTERM. `reason` "SIGTERM" makes the exit code 143 instead of 130. */
  readonly signal: AbortSignal;
}

/** Lab hosts that start at once: each costs its runtime's start-up. */
const STARTS_AT_ONCE = 8;
/** DELs under way at once on one node. */
const DELS_AT_ONCE = 8;

/**
 * Does what the words after `flatnetctl lab` say.
 * @returns the exit code: 0 flat (or done), 1 not flat or failed, 2 wrong options, 130 and 143 interrupted.
 */
export async function runLab(args: readonly string[], world: LabWorld): Promise<number> {
  // Whoever read the lab's words may leave, as in `flatnetctl lab | head`; what it made is removed all the same.
  for (const output of [world.stdout, world.stderr]) output.on?.("error", () => {});
  let command: LabCommand;
  try {
    command = parseLabArgs(args);
  } catch (error) {
    world.stderr.write(`flatnetctl lab: ${messageOf(error)}\n`);
    return 2;
  }
  if (command.kind === "help") {
    world.stdout.write(LAB_USAGE);
    return 0;
  }
  const json = command.kind !== "down" && command.json;
  const screen = json ? NO_SCREEN : createScreen(world.stdout);
  try {
    if (world.uid !== 0) throw new LabError("LAB_NOT_ROOT", "the lab makes network namespaces, which needs root");
    const lock = await lockLab(command.name);
    try {
      if (command.kind === "down") return await down(command.name, screen);
      if (command.kind === "prove") return await proveAgain(command, world, screen);
      return await up(command, world, screen);
    } finally {
      await lock.release();
    }
  } catch (error) {
    screen.clear();
    return fail(error, world, json);
  }
}

function fail(error: unknown, world: LabWorld, json: boolean): number {
  const code = error instanceof LabError ? error.code : "LAB_FAILED";
  world.stderr.write(`flatnetctl lab: ${messageOf(error)}\n`);
  if (error instanceof LabError) for (const line of error.detail) world.stderr.write(`  ${line}\n`);
  if (json) world.stdout.write(`${JSON.stringify({ version: 1, error: { code, message: messageOf(error) } })}\n`);
  if (code !== "LAB_INTERRUPTED") return 1;
  return world.signal.reason === "SIGTERM" ? 143 : 130;
}

async function up(command: Extract<LabCommand, { kind: "up" }>, world: LabWorld, screen: Screen): Promise<number> {
  await clearTheWay(command.name, screen);
  const palette = world.color && screen !== NO_SCREEN ? COLOURED : PLAIN;
  const hosts = new Map<string, LabHost>();
  let kept = false;
  try {
    let topology = planTopology(command);
    await writeState({ version: 2, kept: false, topology });
    const daemons = await makeAndStart(topology, hosts, world, screen, palette);

    const addMs = new Map<string, number>();
    topology = await attachPods(topology, hosts, world, addMs, screen);
    const adds = summarize([...addMs.values()]);
    screen.line();
    for (const line of drawTopology(topology, palette)) screen.line(line);
    screen.line();
    if (adds !== undefined) screen.line(`  ${palette.good("✓")} ${describeAdds(adds)}`);

    const proof = await proveOn(topology, hosts, world, screen, palette);
    const unclean = command.keep ? [] : await takeDown(topology, hosts, daemons, world, screen, palette);
    const verdict = judge({ ...sizeOf(topology), ...proof }, unclean);
    world.signal.throwIfAborted();
    if (command.keep) {
      await writeState({ version: 2, kept: true, topology });
      kept = true;
    }
    if (!kept) {
      // Before the verdict: a lab that cannot be removed is a failure, and the verdict is the last word.
      screen.progress("removing the lab");
      await stopAll(hosts);
      await sweep(command.name);
    }
    if (screen === NO_SCREEN) {
      printJson(world, toReport({ topology, addMs, ...proof, unclean, kept, verdict }));
    } else {
      if (kept) for (const line of lookAround(topology)) screen.line(line);
      sayVerdict(verdict, screen, palette);
    }
    return verdict.flat ? 0 : 1;
  } catch (error) {
    // Whatever broke because of the interruption is not the news.
    throw interrupted(world) ?? error;
  } finally {
    await stopAll(hosts);
    if (!kept) await sweep(command.name);
  }
}

/** Refuses a name that a kept lab has, and removes what a killed lab left. */
async function clearTheWay(name: string, screen: Screen): Promise<void> {
  if (!(await isAnythingLeft(name))) return;
  let state: LabState | undefined;
  try {
    state = await readState(name);
  } catch (error) {
    // What cannot be read cannot be kept on purpose.
    if (!(error instanceof LabError)) throw error;
  }
  if (state?.kept === true && (await listNamespaces(name)).length > 0) {
    throw new LabError("LAB_IN_USE", `lab ${name} is up; flatnetctl lab down --name ${name} removes it`);
  }
  screen.line(`  removing what an earlier lab ${name} left`);
  await sweep(name);
}

/** Namespaces and underlay, then everything that has to start, at once. */
async function makeAndStart(
  topology: Topology,
  hosts: Map<string, LabHost>,
  world: LabWorld,
  screen: Screen,
  palette: Palette,
): Promise<LabDaemon[]> {
  const begun = Date.now();
  const byBgp = topology.underlay.kind === "bgp";
  if (byBgp) await requireBird();
  screen.progress("making namespaces");
  await makeNetwork(topology);
  if (byBgp) await startRouter(topology);
  world.signal.throwIfAborted();
  let serving = 0;
  const progress = () =>
    screen.progress(
      `starting: ${serving} of ${topology.nodes.length} daemons serve, ${hosts.size} of ${endsOf(topology).length} ends ready`,
    );
  progress();
  const daemons = Promise.all(
    topology.nodes.map(async (node) => {
      const daemon = await startDaemon(topology, node, world.daemon, world.signal);
      serving++;
      progress();
      return daemon;
    }),
  );
  const ends = startHosts(topology, hosts, world, progress);
  // Both to their end, so that nothing is still starting while the lab is removed.
  for (const result of await Promise.allSettled([daemons, ends])) if (result.status === "rejected") throw result.reason;
  screen.line(
    `  ${palette.good("✓")} ${count(namespacesOf(topology).length, "namespace")}, ` +
      `${count(topology.nodes.length, "daemon")} serving (${((Date.now() - begun) / 1000).toFixed(1)} s)`,
  );
  if (byBgp) {
    screen.progress("waiting for routes by BGP");
    const [sign, word] = (await waitForRoutes(topology, world.signal))
      ? [palette.good("✓"), "every"]
      : [palette.bad("✗"), "not every"];
    screen.line(
      `  ${sign} ${word} node has learned the routes to all others (${((Date.now() - begun) / 1000).toFixed(1)} s)`,
    );
  }
  return await daemons;
}

async function startHosts(
  topology: Topology,
  hosts: Map<string, LabHost>,
  world: LabWorld,
  progress: () => void,
): Promise<void> {
  await inParallel(endsOf(topology), STARTS_AT_ONCE, async (end) => {
    hosts.set(end.name, await LabHost.start(end.name, end.namespace, world.selfCommand, world.signal));
    progress();
  });
}

/** ADD for every pod, one after the other, so that each one's time is its own. */
async function attachPods(
  topology: Topology,
  hosts: ReadonlyMap<string, LabHost>,
  world: LabWorld,
  addMs: Map<string, number>,
  screen: Screen,
): Promise<Topology> {
  const addresses = new Map<string, string[]>();
  const { pods: all } = sizeOf(topology);
  for (const node of topology.nodes) {
    for (const pod of node.pods) {
      world.signal.throwIfAborted();
      const result = await hostOf(hosts, node.name).run(pluginRun("ADD", world.plugin, topology, node, pod));
      try {
        addresses.set(pod.name, addedAddresses(pod.name, result));
      } catch (error) {
        if (!(error instanceof LabError)) throw error;
        const log = (await daemonLog(topology.name, node.name)).map((line) => `flatnetd of ${node.name}: ${line}`);
        throw new LabError(error.code, error.message, { cause: error, detail: [...error.detail, ...log] });
      }
      addMs.set(pod.name, result.ms);
      screen.progress(`attached ${addMs.size} of ${all} pods`);
    }
  }
  return withPodAddresses(topology, addresses);
}

/** DEL for every pod, then SIGTERM for every daemon; returns what went wrong, a sentence each. */
async function takeDown(
  topology: Topology,
  hosts: ReadonlyMap<string, LabHost>,
  daemons: readonly LabDaemon[],
  world: LabWorld,
  screen: Screen,
  palette: Palette,
): Promise<string[]> {
  screen.progress("detaching the pods");
  const failed = await inParallel(topology.nodes, topology.nodes.length, async (node) => {
    const runs = await inParallel(node.pods, DELS_AT_ONCE, async (pod) => {
      const result = await hostOf(hosts, node.name).run(pluginRun("DEL", world.plugin, topology, node, pod));
      return result.code === 0 ? [] : [pluginFailed("DEL", pod.name, result).message];
    });
    return runs.flat();
  });
  const left = (await listLeftovers(topology)).map((thing) => `DEL left ${thing}`);
  screen.progress("stopping the daemons");
  const stops = await Promise.all(daemons.map((daemon) => daemon.stop()));
  const unclean = [...failed.flat(), ...left, ...stops.filter((wrong) => wrong !== undefined)];
  if (unclean.length === 0) screen.line(`  ${palette.good("✓")} DEL left no link, route or journal entry`);
  else for (const wrong of unclean) screen.line(`  ${palette.bad("✗")} ${wrong}`);
  return unclean;
}

async function proveOn(
  topology: Topology,
  hosts: ReadonlyMap<string, LabHost>,
  world: LabWorld,
  screen: Screen,
  palette: Palette,
): Promise<Proof> {
  const begun = Date.now();
  const proof = await prove(topology, hosts, (done, all) => {
    // A terminal shows no more than some of them anyway.
    if (done % 16 === 0) screen.progress(`proving ${done} of ${all} cells`);
  });
  world.signal.throwIfAborted();
  const { cells, failures, late } = proof;
  const seconds = `${((Date.now() - begun) / 1000).toFixed(1)} s`;
  screen.line(
    failures.length === 0
      ? `  ${palette.good("✓")} ${count(cells.length, "cell")} proven${late > 0 ? `, ${late} at the second try` : ""} (${seconds})`
      : `  ${palette.bad("✗")} ${failures.length} of ${count(cells.length, "cell")} fail (${seconds})`,
  );
  screen.line();
  for (const line of drawMatrix(topology, cells, failures, widthOf(world.stdout), palette)) {
    screen.line(line);
  }
  screen.line();
  return proof;
}

async function proveAgain(
  command: Extract<LabCommand, { kind: "prove" }>,
  world: LabWorld,
  screen: Screen,
): Promise<number> {
  const state = await readState(command.name);
  if (state?.kept !== true) {
    throw new LabError(
      "LAB_NOT_UP",
      `no lab ${command.name} is up; flatnetctl lab --keep --name ${command.name} makes one`,
    );
  }
  const { topology } = state;
  const palette = world.color && screen !== NO_SCREEN ? COLOURED : PLAIN;
  const hosts = new Map<string, LabHost>();
  try {
    for (const line of drawTopology(topology, palette)) screen.line(line);
    screen.line();
    await startHosts(topology, hosts, world, () =>
      screen.progress(`starting: ${hosts.size} of ${endsOf(topology).length} ends ready`),
    );
    const proof = await proveOn(topology, hosts, world, screen, palette);
    const verdict = judge({ ...sizeOf(topology), ...proof }, []);
    if (screen === NO_SCREEN) {
      printJson(world, toReport({ topology, addMs: new Map(), ...proof, unclean: [], kept: true, verdict }));
    } else {
      sayVerdict(verdict, screen, palette);
    }
    return verdict.flat ? 0 : 1;
  } catch (error) {
    throw interrupted(world) ?? error;
  } finally {
    await stopAll(hosts);
  }
}

async function down(name: string, screen: Screen): Promise<number> {
  const there = await isAnythingLeft(name);
  screen.progress("removing the lab");
  await sweep(name);
  screen.line(there ? `lab ${name} is removed` : `there is no lab ${name}`);
  return 0;
}

async function stopAll(hosts: Map<string, LabHost>): Promise<void> {
  await Promise.all([...hosts.values()].map((host) => host.stop()));
  hosts.clear();
}

function hostOf(hosts: ReadonlyMap<string, LabHost>, name: string): LabHost {
  const host = hosts.get(name);
  if (host === undefined) throw new LabError("LAB_HOST_FAILED", `there is no process in ${name}`);
  return host;
}

function sizeOf(topology: Topology): { nodes: number; pods: number; sampled: boolean } {
  return {
    sampled: isSampled(topology),
    nodes: topology.nodes.length,
    pods: topology.nodes.reduce((sum, node) => sum + node.pods.length, 0),
  };
}

function interrupted(world: LabWorld): LabError | undefined {
  return world.signal.aborted
    ? new LabError("LAB_INTERRUPTED", "interrupted; everything it made is removed")
    : undefined;
}

function sayVerdict(verdict: Verdict, screen: Screen, palette: Palette): void {
  screen.line(verdict.flat ? palette.good(verdict.text) : palette.bad(verdict.text));
}

function printJson(world: LabWorld, report: object): void {
  world.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
}

/** How to look around in a kept lab. */
function lookAround(topology: Topology): string[] {
  const node = topology.nodes[0];
  const pod = node?.pods[0];
  if (node === undefined || pod === undefined) return [];
  const name = topology.name === "lab" ? "" : ` --name ${topology.name}`;
  return [
    `  The lab stays up; its files are in ${labDir(topology.name)}. To look around:`,
    `    ip netns exec ${pod.namespace} ip route`,
    `    ip -n ${node.namespace} route show proto ${topology.underlay.kind === "bgp" ? "bird" : "70"}`,
    ...(topology.underlay.kind === "bgp" ? [`    birdc -s ${routerPaths(topology.name).socket} show protocols`] : []),
    `    tail -f ${nodePaths(topology.name, node.name).log}`,
    `    flatnetctl lab prove${name}`,
    `    flatnetctl lab down${name}`,
    "",
  ];
}
