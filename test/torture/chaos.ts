// SPDX-License-Identifier: Apache-2.0
//
// The first half of a round: verbs for all pods, many at once, while plugins and the daemon are killed, the disk is full,
// the clock jumps and namespaces vanish.

import { rmSync } from "node:fs";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { DAEMON_FAULTS, PLUGIN_FAULTS } from "../../src/net/fault.ts";
import { runToEnd } from "../helpers/daemon.ts";
import { type Attachment, hostLinkOf, keyOf, type Place } from "./ledger.ts";
import type { Random } from "./random.ts";
import type { TortureRun } from "./run.ts";
import { add, check, collect, type Doom, del, status } from "./verbs.ts";

const MINUTE_MS = 60_000;
const YEAR_MS = 365 * 24 * 60 * MINUTE_MS;

/** How far the clock is off after a jump, both ways. */
const JUMPS_MS = [0, MINUTE_MS, 60 * MINUTE_MS, 25 * 60 * MINUTE_MS, 5 * YEAR_MS];

/** The steps that a verb can come to. */
const STEPS: Record<string, readonly string[]> = {
  ADD: PLUGIN_FAULTS.slice(0, PLUGIN_FAULTS.indexOf("plugin.rules-removed")),
  DEL: PLUGIN_FAULTS.filter((name) => /removed$|detached$|note-/.test(name)),
  GC: PLUGIN_FAULTS.filter((name) => name.includes("garbage")),
};
const STEPS_OF_ALL = ["plugin.verb-done", "plugin.result-printed"];

/** The steps of the daemon's start: one that dies there every time serves nobody. */
const START_STEPS = new Set<string>(DAEMON_FAULTS.slice(0, DAEMON_FAULTS.indexOf("daemon.serving") + 1));

/** How long the daemon is left alone with that, in milliseconds: two looks at what vanished, and as many restarts. */
const DUSK_MS = 3_000;
/** How many verbs find the disk full before. */
const LAST_OPERATIONS = 12;
/** How many parts of pods are taken away before. */
const TAMPERED = 6;

/** What is disturbed in a round. */
interface Weather {
  readonly daemonKilled: boolean;
  readonly diskFull: boolean;
  readonly clockJumps: boolean;
}

/** @param operations how many verbs are begun */
export async function chaos(run: TortureRun, operations: number): Promise<void> {
  const { random } = run;
  // In some rounds the daemon lives for a while, since some things it does take time.
  const weather: Weather = {
    daemonKilled: random.chance(0.75),
    diskFull: random.chance(0.5),
    clockJumps: random.chance(0.6),
  };
  run.log.push(`weather: ${JSON.stringify(weather)}`);
  const over = new AbortController();
  const armRandom = random.fork();
  const arm = () => armDaemon(run, armRandom);
  const delayRandom = random.fork();
  await run.node.rest();
  run.node.keep(arm, () => delayRandom.between(0, 400));
  const disturbers = [
    ...(weather.daemonKilled ? [killDaemon(run, random.fork(), over.signal)] : []),
    ...(weather.diskFull ? [fillDisk(run, random.fork(), over.signal)] : []),
    ...(weather.clockJumps ? [setClock(run, random.fork(), over.signal)] : []),
  ];
  let left = operations;
  const work = async (mine: Random) => {
    while (left-- > 0) await operate(run, mine);
  };
  await Promise.all(Array.from({ length: run.inFlight }, () => work(random.fork())));
  over.abort();
  await Promise.all(disturbers);
  await dusk(run, weather);
}

/**
 * The runtime does little any more, and the daemon comes by what it does by itself and not at once: it recovers from the full
 * disk, gives up what vanished, repairs what was taken away. It still ends wherever it is armed to.
 */
async function dusk(run: TortureRun, { diskFull }: Weather): Promise<void> {
  const { ledger, node, random, counts, log } = run;
  // Nobody kills it at random now, so it lives to see both ends of that.
  if (diskFull) {
    await node.serving().catch(() => {});
    node.fillDisk(0);
    counts.event("disk filled up");
    log.push(`${performance.now().toFixed(0)} ms disk: full, and nobody kills at random any more`);
    await Promise.all(Array.from({ length: LAST_OPERATIONS }, () => operate(run, random.fork())));
  }
  node.emptyDisk();
  const held = ledger.held();
  for (let i = 0; i < TAMPERED && held.length > 0; i++) await tamper(run, random.pick(held), random);
  await sleep(DUSK_MS);
}

/** The steps that were hit least, so that each has its turn. */
function armDaemon({ counts, node }: TortureRun, random: Random): string {
  counts.readFaults(node.faults());
  const starting = random.chance(0.4);
  const points = DAEMON_FAULTS.filter((name) => starting || !START_STEPS.has(name))
    .map((name) => ({ name, hits: counts.hits(name) + random.next() }))
    .sort((a, b) => a.hits - b.hits);
  return points
    .slice(0, 6)
    .map(({ name }) => `${name}:${counts.hits(name) === 0 ? 1 : random.pick([1, 0.1, 0.02])}`)
    .join(",");
}

function doomOf({ counts }: TortureRun, random: Random, verb: string): Doom {
  if (random.chance(0.12)) return { killAfterMs: random.between(1, 60) };
  if (!random.chance(0.3)) return {};
  const steps = [...(STEPS[verb] ?? []), ...STEPS_OF_ALL];
  const least = steps
    .map((name) => ({ name, hits: counts.hits(name) + 2 * random.next() }))
    .sort((a, b) => a.hits - b.hits);
  return { fault: least[0]?.name };
}

async function killDaemon({ node, counts, log }: TortureRun, random: Random, over: AbortSignal): Promise<void> {
  while (await passed(random.between(100, 2_500), over)) {
    // Mostly one that serves: one that is always about to start shows nothing.
    while (!node.isServing && random.chance(0.9) && (await passed(50, over)));
    if (over.aborted) return;
    const signal = random.chance(0.7) ? "SIGKILL" : "SIGTERM";
    if (!node.signal(signal)) continue;
    counts.event(signal === "SIGKILL" ? "daemon killed at random" : "daemon told to stop");
    log.push(`${performance.now().toFixed(0)} ms daemon: ${signal}`);
  }
}

async function fillDisk({ node, counts, log }: TortureRun, random: Random, over: AbortSignal): Promise<void> {
  while (await passed(random.between(300, 1_500), over)) {
    node.fillDisk(random.between(0, 32) * 1024);
    counts.event("disk filled up");
    log.push(`${performance.now().toFixed(0)} ms disk: full`);
    await passed(random.between(200, 2_000), over);
    node.emptyDisk();
    log.push(`${performance.now().toFixed(0)} ms disk: space again`);
  }
}

async function setClock({ node, counts, log }: TortureRun, random: Random, over: AbortSignal): Promise<void> {
  while (await passed(random.between(200, 1_500), over)) {
    const offsetMs = random.pick(JUMPS_MS) * random.pick([-1, 1]);
    node.setClock(offsetMs);
    counts.event("clock set");
    log.push(`${performance.now().toFixed(0)} ms clock: off by ${offsetMs} ms`);
  }
}

/** Waits. @returns false when the chaos is over before */
async function passed(ms: number, over: AbortSignal): Promise<boolean> {
  try {
    await sleep(ms, undefined, { signal: over });
  } catch {
    // The only thing that ends a sleep early.
  }
  return !over.aborted;
}

/** One thing that happens to one pod, or to the node. */
async function operate(run: TortureRun, random: Random): Promise<void> {
  const { ledger, counts } = run;
  const kind = random.weighted({ pod: 90, status: 3, gc: 3, late: 2, file: 2 });
  if (kind === "file") return takeFile(run, random);
  if (kind === "status") return status(run, doomOf(run, random, "STATUS"));
  if (kind === "gc") {
    await collect(run, ledger.valid(), doomOf(run, random, "GC"));
    return;
  }
  const vanished = ledger.vanished[0];
  if (kind === "late" && vanished !== undefined) {
    // The runtime comes by in the end, though the namespace is gone.
    ledger.vanished.shift();
    if (!(await del(run, vanished, doomOf(run, random, "DEL")))) ledger.vanished.push(vanished);
    return;
  }
  const idle = ledger.places.filter(({ busy }) => !busy);
  if (idle.length === 0) return;
  const place = random.pick(idle);
  place.busy = true;
  try {
    if (random.chance(0.04)) {
      counts.event("namespace vanished");
      await vanish(run, place);
    } else {
      await operateOn(run, place, random);
    }
  } finally {
    place.busy = false;
  }
}

/** Takes away a file of the daemon's that somebody else reads, or its own record of them. */
function takeFile({ node, counts, log }: TortureRun, random: Random): void {
  const plugins = ["flatnet", "flatnet-ipam"].map((name) => join(node.binDir, name));
  const others = [join(node.confDir, "10-flatnet.conflist"), join(node.stateDir, "footprint.json")];
  const path = random.pick([...plugins, ...others]);
  rmSync(path, { force: true });
  counts.event(`${basename(path)} taken away`);
  log.push(`${performance.now().toFixed(0)} ms ${basename(path)} is taken away`);
}

async function operateOn(run: TortureRun, place: Place, random: Random): Promise<void> {
  const attachment = random.pick(place.attachments);
  const doom = (verb: string) => doomOf(run, random, verb);
  if (place.attachments.some(isIntruder)) {
    for (const intruder of place.attachments.filter(isIntruder)) {
      if (!(await del(run, intruder, doom("DEL")))) return;
      place.attachments.splice(place.attachments.indexOf(intruder), 1);
    }
    return;
  }
  switch (attachment.standing) {
    case "none": {
      if (random.chance(0.05)) await del(run, attachment, doom("DEL"));
      else await add(run, attachment, doom("ADD"));
      break;
    }
    case "open": {
      if (random.chance(0.5)) await add(run, attachment, doom("ADD"));
      else await del(run, attachment, doom("DEL"));
      break;
    }
    case "held": {
      const kind = random.weighted({ del: 35, check: 15, again: 10, intrude: 10, further: 30, tamper: 5 });
      const other = place.attachments.find(({ standing }) => standing !== "held");
      if (kind === "check") await check(run, attachment, doom("CHECK"));
      else if (kind === "again") await add(run, attachment, doom("ADD"));
      else if (kind === "tamper") await tamper(run, attachment, random);
      else if (kind === "intrude") await intrude(run, place, attachment, random);
      else if (kind === "further" && other !== undefined) await add(run, other, doom("ADD"));
      else await del(run, attachment, doom("DEL"));
      break;
    }
  }
  // A container comes back under its own name only now and then.
  if (place.attachments.every(({ standing }) => standing === "none") && random.chance(0.7)) {
    run.ledger.nextContainer(place);
  }
}

/** Another container that wants an interface which the pod has: refused, after it got an address. */
async function intrude(run: TortureRun, place: Place, { ifname, netns }: Attachment, random: Random): Promise<void> {
  const containerId = `pod${place.index}-${place.generation}-intruder`;
  const base = { containerId, ifname, netns, portMappings: [], addresses: [], result: undefined };
  const intruder: Attachment = { ...base, standing: "none", tampered: false };
  place.attachments.push(intruder);
  const fault = random.chance(0.4) ? "plugin.step-undone" : undefined;
  const succeeded = await add(run, intruder, { fault });
  if (succeeded) run.violations.push(`ADD of ${keyOf(intruder)} succeeded, whose interface was there already`);
}

/** Takes a part of a pod's network away, as somebody at the node might. */
async function tamper({ node, counts, log }: TortureRun, attachment: Attachment, random: Random): Promise<void> {
  const address = random.pick(attachment.addresses);
  const part = random.pick(["route", "neighbour", "address"]);
  const host = ["ip", "-n", node.netns.name];
  const link = hostLinkOf(attachment);
  const commands: Record<string, string[]> = {
    route: [...host, "route", "delete", address, "dev", link],
    neighbour: [...host, "neighbour", "delete", address, "dev", link],
    address: ["ip", "-n", basename(attachment.netns), "address", "delete", address, "dev", attachment.ifname],
  };
  attachment.tampered = true;
  // It may be gone already: then there is nothing to repair.
  if ((await runToEnd(commands[part] as string[])).status !== 0) return;
  counts.event(`${part} of a pod taken away`);
  log.push(`${performance.now().toFixed(0)} ms ${keyOf(attachment)} loses its ${part} of ${address}`);
}

function isIntruder({ containerId }: Attachment): boolean {
  return containerId.endsWith("-intruder");
}

/** The namespace goes without a DEL, and another pod comes into its place. */
export async function vanish(run: TortureRun, place: Place): Promise<void> {
  const { ledger, reality, log } = run;
  log.push(`${performance.now().toFixed(0)} ms namespace of pod${place.index}-${place.generation} vanishes`);
  for (const attachment of place.attachments) {
    if (attachment.standing === "none") continue;
    ledger.doubt(attachment);
    ledger.vanished.push(attachment);
  }
  place.attachments = [];
  await reality.removePod(place.netns);
  place.netns = (await reality.createPod()).path;
  ledger.nextContainer(place);
}
