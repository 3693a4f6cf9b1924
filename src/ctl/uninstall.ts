// SPDX-License-Identifier: Apache-2.0
//
// `flatnetctl uninstall`: takes flatnet off this node. Kernel objects are known by their marks, everything else by the record
// that the daemon kept of it, which goes last: killed anywhere, the command is just run again.
import { readdir, readFile, rm, rmdir, stat } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Bird, birdPaths } from "../bgp/bird.ts";
import { isConfiguration, isOurs } from "../footprint/conflist.ts";
import { unlinkIfThere } from "../footprint/place.ts";
import { PLUGIN_NAMES, pluginPaths } from "../footprint/plugin-files.ts";
import { type Footprint, readFootprint, type SysctlChange } from "../footprint/record.ts";
import { restoreSysctls } from "../footprint/restore-sysctls.ts";
import { readBootId } from "../ipam/boot-id.ts";
import { linkAlias } from "../net/names.ts";
import { readReport } from "./adoption-report.ts";
import { readOptions, reporting } from "./command.ts";
import { DEFAULT_SOCKET } from "./daemon-client.ts";
import { CtlError } from "./errors.ts";
import { KernelRemains } from "./kernel-remains.ts";
import { readAwaitedDels } from "./libcni-cache.ts";
import { claimState, type StateClaim } from "./state-claim.ts";
import { plural } from "./words.ts";
import type { CtlWorld } from "./world.ts";

const STATE_DIR = "/var/lib/flatnet";
const CACHE_DIR = "/var/lib/cni";
const SYSCTL_DIR = "/proc/sys/net";
/** So many are named in one line. */
const NAMED = 20;

const USAGE = `usage: flatnetctl uninstall [options]

Takes flatnet off this node: routes, links, addresses, nftables tables, BIRD, sysctls, the plugin, the
conflist, and its state. The daemon has to be ended first, in a way in which nobody starts it again,
and the pods have to be gone. What a run that was interrupted has left, another one finishes.

  --state-dir DIR    the daemon's (${STATE_DIR})
  --socket PATH      the daemon's, where it wrote down none (${DEFAULT_SOCKET})
  --stop-daemon      end the daemon that still runs
  --force            also while pods of flatnet's run: they lose their network
  --cni-bin-dir DIR  remove the plugin there too, beside where the daemon installed it
  --cni-conf-dir DIR remove flatnet's conflists there too
  --sysctl-dir DIR   where the node's /proc/sys/net is writable (/proc/sys/net)
  --cache-dir DIR    where libcni keeps which attachments runtimes have (${CACHE_DIR})

The plugin stays, and without another network's configuration the conflist too, while a runtime has
attachments that it has not deleted: it calls the plugin for each, and the plugin says that it is gone.
Once they are gone a second run takes both away.

Exit code: 0 flatnet is gone; 1 something could not be removed, or stays for now; 2 wrong options.
`;

const OPTIONS = {
  "state-dir": "string",
  socket: "string",
  "stop-daemon": "boolean",
  force: "boolean",
  "cni-bin-dir": "string",
  "cni-conf-dir": "string",
  "sysctl-dir": "string",
  "cache-dir": "string",
} as const;

/** Where things are, and who still needs them. */
interface Scene {
  readonly stateDir: string;
  readonly footprint: Footprint;
  readonly kernel: KernelRemains;
  readonly bootId: string;
  readonly sysctlDir: string;
  readonly plugins: readonly string[];
  readonly conflists: readonly string[];
  /** Attachments that a runtime will call the plugin for. */
  readonly awaited: readonly string[];
  readonly socket: string;
}

/** One thing that goes. */
interface Step {
  readonly name: string;
  /** What became of it; nothing when there was nothing. */
  readonly run: () => Promise<readonly string[]>;
}

/** @returns the exit status */
export async function runUninstall(args: readonly string[], world: CtlWorld): Promise<number> {
  if (args.includes("--help") || args.includes("-h") || args[0] === "help") {
    world.stdout.write(USAGE);
    return 0;
  }
  return reporting("uninstall", world, async () => {
    const { values } = readOptions(args, OPTIONS);
    const path = (name: keyof typeof OPTIONS, otherwise: string) =>
      typeof values[name] === "string" && values[name] !== "" ? resolve(values[name]) : otherwise;
    if (world.uid !== 0) throw new CtlError("CTL_USAGE", "only root can take it off a node");
    const stateDir = path("state-dir", STATE_DIR);
    const footprint = await readFootprint(stateDir).catch((error: Error) => {
      throw new CtlError("CTL_FILE", `${error.message}: it says which files and sysctls flatnet changed`, error);
    });
    const socket = footprint.socket ?? path("socket", DEFAULT_SOCKET);
    const say = (line: string) => world.stdout.write(`${line}\n`);
    const claim = await claimState({ stateDir, socket, stopDaemon: values["stop-daemon"] === true, say });
    const kernel = new KernelRemains();
    try {
      const bootId = await readBootId();
      const binDir = path("cni-bin-dir", "");
      const confDir = path("cni-conf-dir", "");
      const running = await refuseWhileRunning(kernel, claim, bootId, values["force"] === true, say);
      const awaited = await awaitedDels(path("cache-dir", CACHE_DIR), claim.wasThere);
      const scene: Scene = {
        stateDir,
        footprint,
        kernel,
        bootId,
        sysctlDir: path("sysctl-dir", SYSCTL_DIR),
        plugins: unique([...footprint.files.filter(isPlugin), ...(binDir === "" ? [] : pluginPaths(binDir))]),
        conflists: unique([...footprint.files.filter(isConfiguration), ...(await conflistsIn(confDir))]),
        awaited: unique([...awaited, ...running]),
        socket,
      };
      return await leave(scene, claim, world);
    } finally {
      kernel.close();
      await claim.release();
    }
  });
}

/**
 * @returns whom it is about, when that is allowed
 * @throws CtlError CTL_REFUSED naming the pods
 */
async function refuseWhileRunning(
  kernel: KernelRemains,
  claim: StateClaim,
  bootId: string,
  force: boolean,
  say: (line: string) => void,
): Promise<string[]> {
  const linked = (await kernel.hostEnds()).map(({ name, alias }) => withoutMark(alias ?? name));
  const others: string[] = [];
  for (const { hostIfname, netns, pod, attachment, bootId: ofBoot, adoption } of claim.records) {
    // Whoever has a link is known by it; of an earlier boot nobody runs. What was taken over keeps the other plugin's network.
    if (hostIfname !== "" || ofBoot !== bootId || attachment.ifname === "" || adoption !== undefined) continue;
    if (!(await isThere(netns))) continue;
    others.push(withoutMark(linkAlias(pod, attachment.containerId)));
  }
  const running = unique([...linked, ...others]);
  if (running.length === 0) return [];
  const names = some(running);
  if (!force) {
    throw new CtlError(
      "CTL_REFUSED",
      `${plural(running.length, "pod has", "pods have")} flatnet's network: ${names}; drain the node, or --force`,
    );
  }
  say(`pods: ${plural(running.length, "pod loses its", "pods lose their")} network: ${names}`);
  return running;
}

/**
 * Whom a runtime will still call the plugin for. When flatnet had left before, they are those that still have a namespace: a
 * runtime that calls another network by now never forgets the others.
 */
async function awaitedDels(cacheDir: string, wasThere: boolean): Promise<string[]> {
  const names: string[] = [];
  for (const { containerId, pod, netns } of await readAwaitedDels(cacheDir)) {
    if (wasThere || (await isThere(netns))) names.push(withoutMark(linkAlias(pod, containerId)));
  }
  return names;
}

/** Does each step, whatever became of the others. The record goes when all that it tells of is gone. */
async function leave(scene: Scene, claim: StateClaim, world: CtlWorld): Promise<number> {
  const say = (line: string) => world.stdout.write(`${line}\n`);
  let failed = 0;
  for (const { name, run } of stepsOf(scene)) {
    try {
      const lines = await run();
      say(`${name}: ${lines.length === 0 ? "nothing there" : some(lines)}`);
    } catch (error) {
      failed++;
      say(`${name}: FAILED: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  if (failed > 0) {
    world.stderr.write(
      `flatnetctl uninstall: ${plural(failed, "step", "steps")} failed, and ${scene.stateDir} stays: run it again\n`,
    );
    return 1;
  }
  await claim.release();
  say(`state: ${(await removeAll(scene.stateDir)) ? `${scene.stateDir} removed` : "nothing there"}`);
  const conflists = await filter(scene.conflists, async (file) => isOurs((await readIfThere(file)) ?? ""));
  const staying = [...(await filter(scene.plugins, isThere)), ...conflists];
  if (staying.length === 0) {
    say("flatnet is not on this node any more.");
    return 0;
  }
  const again = unique(staying.map((file) => `--cni-${isPlugin(file) ? "bin" : "conf"}-dir ${dirname(file)}`));
  say(`For now ${staying.join(", ")} ${staying.length === 1 ? "stays" : "stay"}: a runtime has yet to delete`);
  say(`${plural(scene.awaited.length, "attachment", "attachments")} (${some(scene.awaited)}). When it has:`);
  say(`  flatnetctl uninstall ${again.join(" ")}`);
  return 1;
}

/**
 * What brings new pods first; then what pods have, what leads to them, what they are kept by; files of the programs last.
 */
function stepsOf(scene: Scene): Step[] {
  const { footprint, kernel, stateDir } = scene;
  return [
    { name: "conflist", run: () => removeConflists(scene) },
    { name: "BIRD", run: () => retireBird(stateDir, footprint) },
    { name: "links", run: () => kernel.removeHostEnds() },
    { name: "routes", run: () => kernel.removeRoutes() },
    { name: "rules", run: () => kernel.removeRules() },
    { name: "addresses", run: () => kernel.removeAddresses() },
    { name: "nftables", run: () => kernel.removeTables() },
    { name: "sysctls", run: () => undoSysctls(scene) },
    { name: "plugin", run: () => removePlugins(scene) },
    { name: "socket", run: () => removeSocket(scene.socket) },
    { name: "directories", run: () => removeDirectories(footprint.directories) },
  ];
}

/**
 * A runtime without any configuration deletes no pods (go-cni, Remove: "cni plugin not initialized"). So while it has some to
 * delete, ours goes only when there is another.
 */
async function removeConflists({ conflists, awaited }: Scene): Promise<string[]> {
  const lines: string[] = [];
  for (const path of conflists) {
    const text = await readIfThere(path);
    if (text === undefined) continue;
    if (!isOurs(text)) lines.push(`${path} is not flatnet's any more, and left`);
    else if (awaited.length > 0 && !(await hasSuccessor(path, conflists))) lines.push(`${path} stays for now`);
    else if (await unlinkIfThere(path)) lines.push(`${path} removed`);
  }
  return lines;
}

async function hasSuccessor(path: string, ours: readonly string[]): Promise<boolean> {
  const directory = dirname(path);
  const names = (await readdir(directory)).filter(isConfiguration);
  return names.some((name) => !ours.includes(join(directory, name)));
}

async function removePlugins({ plugins, awaited }: Scene): Promise<string[]> {
  const lines: string[] = [];
  for (const path of plugins) {
    if (!(await isThere(path))) continue;
    if (awaited.length > 0) lines.push(`${path} stays for now`);
    else if (await unlinkIfThere(path)) lines.push(`${path} removed`);
  }
  return lines;
}

async function retireBird(stateDir: string, { bird: recorded }: Footprint): Promise<string[]> {
  const paths = birdPaths(stateDir);
  if (recorded === undefined) return [];
  const bird = new Bird(paths, recorded.program, recorded.table);
  if (!(await bird.hasBeen())) return [];
  await bird.retire();
  return ["ended, its routes removed"];
}

async function undoSysctls({ footprint, stateDir, bootId, sysctlDir }: Scene): Promise<string[]> {
  const { changes, oddities } = await readAdoptedSysctls(stateDir, bootId);
  const lines = (await restoreSysctls([...footprint.sysctls, ...changes], bootId, sysctlDir)).flatMap(
    ({ sysctl, outcome, value }) => {
      const name = `net.${sysctl.replaceAll("/", ".")}`;
      if (outcome === "restored") return [`${name}=${value}`];
      return outcome === "left" ? [`${name} is ${value}, which is not flatnet's, and left`] : [];
    },
  );
  return [...lines, ...oddities];
}

/** What `flatnetctl adopt` changed for pods of another plugin. */
async function readAdoptedSysctls(
  stateDir: string,
  bootId: string,
): Promise<{ changes: SysctlChange[]; oddities: string[] }> {
  const found: { changes: SysctlChange[]; oddities: string[] } = { changes: [], oddities: [] };
  const names = (await namesIn(stateDir)).filter((name) => /^adoption-.*\.json$/.test(name));
  for (const name of names) {
    try {
      const { sysctls } = await readReport(join(stateDir, name));
      for (const { path, before, after } of sysctls) {
        // Without a value before there was no such link.
        if (before === "") continue;
        found.changes.push({ sysctl: path.slice("/proc/sys/net/".length), before, after, bootId, along: [] });
      }
    } catch (error) {
      if (!(error instanceof CtlError)) throw error;
      found.oddities.push(`those of ${name} are not known: ${error.message}`);
    }
  }
  return found;
}

/** And its directory, when it was only for it. */
async function removeSocket(socket: string): Promise<string[]> {
  const removed = (await unlinkIfThere(socket)) ? [socket] : [];
  return [...removed, ...(await removeDirectories([dirname(socket)]))];
}

/** Those that nobody else has put anything into. */
async function removeDirectories(directories: readonly string[]): Promise<string[]> {
  const removed: string[] = [];
  for (const directory of directories.toReversed()) {
    try {
      await rmdir(directory);
      removed.push(directory);
    } catch (error) {
      // In use, gone, or, in a container, what is mounted from the node.
      const code = (error as NodeJS.ErrnoException).code ?? "";
      if (!["ENOTEMPTY", "ENOENT", "EBUSY", "EEXIST", "EROFS"].includes(code)) throw error;
    }
  }
  return removed;
}

/** The record last. A directory that is mounted is emptied. */
async function removeAll(stateDir: string): Promise<boolean> {
  if (!(await isThere(stateDir))) return false;
  const names = await namesIn(stateDir);
  const isRecord = (name: string) => name === "footprint.json";
  for (const name of [...names.filter((one) => !isRecord(one)), ...names.filter(isRecord)]) {
    await rm(join(stateDir, name), { recursive: true, force: true });
  }
  await removeDirectories([stateDir]);
  return true;
}

async function conflistsIn(directory: string): Promise<string[]> {
  if (directory === "") return [];
  const names = await readdir(directory).catch((error: Error) => {
    throw new CtlError("CTL_FILE", `${directory} can't be read: ${error.message}`, error);
  });
  const files = names.filter(isConfiguration).map((name) => join(directory, name));
  return await filter(files, async (file) => isOurs((await readIfThere(file)) ?? ""));
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}

function isPlugin(path: string): boolean {
  return PLUGIN_NAMES.some((name) => path.endsWith(`/${name}`));
}

function withoutMark(alias: string): string {
  return alias.replace(/^flatnet:/, "");
}

async function isThere(path: string): Promise<boolean> {
  if (path === "") return false;
  return await stat(path).then(
    () => true,
    () => false,
  );
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

async function filter<T>(items: readonly T[], test: (item: T) => Promise<boolean>): Promise<T[]> {
  const keeps = await Promise.all(items.map(test));
  return items.filter((_, i) => keeps[i]);
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)];
}

function some(texts: readonly string[]): string {
  const more = texts.length - NAMED;
  return more > 0 ? `${texts.slice(0, NAMED).join(", ")} and ${more} more` : texts.join(", ");
}
