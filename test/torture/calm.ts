// SPDX-License-Identifier: Apache-2.0
//
// The second half of a round: nothing is disturbed any more, the runtime does its duty, and then everybody's idea of what
// is there has to be the same: what was acknowledged, the daemon's records, the kernel.

import { readdirSync, utimesSync } from "node:fs";
import { basename, join } from "node:path";
import { ROUTE_PROTOCOL } from "../../src/net/names.ts";
import { run as runCommand, waitFor } from "../helpers/daemon.ts";
import type { Seen, SeenRecord } from "../helpers/model/reality.ts";
import { type Attachment, hostLinkOf, keyOf } from "./ledger.ts";
import type { TortureRun } from "./run.ts";
import { add, check, collect, del } from "./verbs.ts";

/** How long what happens by itself may take: the daemon's notes, the kernel's end of a namespace. */
const SETTLES_MS = 20_000;

/** How many attachments are checked by CHECK in each round. */
const CHECKED = 8;

export async function calm(run: TortureRun): Promise<void> {
  const { node, ledger, random, violations, counts } = run;
  node.emptyDisk();
  // In half of the rounds the clock stays wrong.
  if (random.chance(0.5)) node.setClock(0);
  await restart(run);
  await noNotes(run);
  counts.event("addresses held by nobody before GC", await leaked(run));
  await duty(run);
  await noNotes(run);
  const valid = ledger.held().map(({ containerId, ifname }) => ({ containerID: containerId, ifname }));
  if (!(await collect(run, valid))) violations.push("GC failed though nothing was disturbed");
  ledger.vanished = [];
  await compare(run);
  for (const attachment of ledger.held()) attachment.tampered = false;
  for (const attachment of ledger.held().slice(0, CHECKED)) {
    if (!(await check(run, attachment))) violations.push(`CHECK of ${keyOf(attachment)} failed in the calm`);
  }
  // What it says has to be what is on disk.
  ageUnfinishedNotes(run);
  await restart(run);
  await compare(run);
}

async function restart({ node }: TortureRun): Promise<void> {
  await node.rest();
  node.keep(
    () => "",
    () => 0,
  );
  await node.serving();
}

/** DEL for everything of which nobody knows. */
async function duty(run: TortureRun): Promise<void> {
  const { ledger } = run;
  await delEach(
    run,
    ledger.attachments().filter(({ standing }) => standing === "open"),
  );
  for (const place of ledger.places) {
    place.attachments = place.attachments.filter(({ containerId }) => !containerId.endsWith("-intruder"));
  }
}

/** The end of the run: every pod goes, and nothing is left. */
export async function removeAll(run: TortureRun): Promise<void> {
  await delEach(run, run.ledger.held());
  await compare(run);
}

async function delEach(run: TortureRun, attachments: readonly Attachment[]): Promise<void> {
  await inFlight(run, attachments, async (attachment) => {
    if (!(await del(run, attachment))) run.violations.push(`DEL of ${keyOf(attachment)} failed in the calm`);
  });
}

/** The beginning: some pods are there before anything is disturbed. */
export async function addSome(run: TortureRun): Promise<void> {
  await restart(run);
  const some = run.ledger.places.filter(({ index }) => index % 2 === 0);
  await inFlight(run, some, async ({ attachments }) => {
    for (const attachment of attachments) {
      if (!(await add(run, attachment))) run.violations.push(`ADD of ${keyOf(attachment)} failed in the calm`);
    }
  });
}

/** Does the work for all of them, so many at once. */
async function inFlight<T>({ inFlight }: TortureRun, items: readonly T[], work: (item: T) => Promise<void>) {
  const left = [...items];
  const next = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: inFlight }, next));
}

async function noNotes({ node }: TortureRun): Promise<void> {
  await waitFor(() => !readdirSync(node.journalDir).some((name) => name.endsWith(".json") && !name.startsWith(".")), {
    timeoutMs: 60_000,
  });
}

/** What a killed plugin began to write is taken away when it is old. */
function ageUnfinishedNotes({ node }: TortureRun): void {
  for (const name of readdirSync(node.journalDir)) {
    if (name.startsWith(".")) utimesSync(join(node.journalDir, name), 0, 0);
  }
}

/** How many addresses the daemon holds for nobody: GC's to find. */
async function leaked({ node, ledger }: TortureRun): Promise<number> {
  const known = new Set(
    [...ledger.attachments(), ...ledger.vanished].filter(({ standing }) => standing !== "none").map(keyOf),
  );
  const { allocations } = await node.allocations();
  const stray = allocations.filter(({ attachment }) => attachment !== undefined && !known.has(keyOf(attachment)));
  return stray.flatMap(({ addresses }) => addresses).length;
}

/** Adds what is still wrong when everything that happens by itself has had its time. */
async function compare(run: TortureRun): Promise<void> {
  let problems: string[] = [];
  try {
    await waitFor(
      async () => {
        problems = await differences(run);
        return problems.length === 0;
      },
      { timeoutMs: SETTLES_MS },
    );
  } catch {
    run.violations.push(...problems);
  }
}

async function differences(run: TortureRun): Promise<string[]> {
  const { reality, ledger, node } = run;
  const held = ledger.held();
  const [seen, neighbours, rules] = await Promise.all([reality.see(true), hostNeighbours(run), podRules(run)]);
  const { daemon } = seen;
  if (daemon === undefined) return ["the daemon doesn't answer"];
  const problems = [
    ...sameSet("record", held.map(recordText), daemon.records.map(seenRecordText)),
    ...twoHolders(daemon.records),
    ...usedCounts(held, daemon.used),
    ...sameSet("host link", held.map(hostLinkOf), [...seen.links]),
    ...sameSet(
      "host route",
      routesOf(held),
      seen.routes.map(({ dst, dev }) => `${dst} dev ${dev}`),
    ),
    ...sameSet("host neighbour", routesOf(held), neighbours),
    ...sameSet("hostPort", held.flatMap(portsOf), daemon.ports),
    ...sameSet("address in a pod", held.flatMap(inPodOf), inPods(seen)),
    ...rules
      .filter((rule) => !held.some((one) => inPodOf(one).some((text) => text.startsWith(`${rule} `))))
      .map((rule) => `stray rule: ${rule}`),
    ...seen.notes.map((note) => `note left in the journal: ${note}`),
    ...node.fileProblems(),
  ];
  const bad = readdirSync(node.journalDir).filter((name) => name.endsWith(".bad"));
  return [...problems, ...bad.map((name) => `a note that makes no sense: ${name}`)];
}

function sameSet(what: string, wanted: readonly string[], found: readonly string[]): string[] {
  const [want, have] = [new Set(wanted), new Set(found)];
  return [
    ...wanted.filter((text) => !have.has(text)).map((text) => `missing ${what}: ${text}`),
    ...found.filter((text) => !want.has(text)).map((text) => `stray ${what}: ${text}`),
  ];
}

function twoHolders(records: readonly SeenRecord[]): string[] {
  const holders = new Map<string, string>();
  return records.flatMap(({ key, addresses }) =>
    addresses.flatMap((address) => {
      const before = holders.get(address);
      holders.set(address, key);
      return before === undefined ? [] : [`${address} is held by ${before} and by ${key}`];
    }),
  );
}

function usedCounts(held: readonly Attachment[], used: readonly number[]): string[] {
  return used
    .filter((count) => count !== held.length)
    .map((count) => `a subnet counts ${count} used addresses, and ${held.length} are held`);
}

function routesOf(held: readonly Attachment[]): string[] {
  return held.flatMap((one) => one.addresses.map((address) => `${address} dev ${hostLinkOf(one)}`));
}

function portsOf({ portMappings, addresses }: Attachment): string[] {
  return addresses.flatMap((address) =>
    portMappings.map(
      ({ protocol, hostPort, containerPort }) => `${protocol} ${hostPort} on * to ${address}:${containerPort}`,
    ),
  );
}

function recordText(attachment: Attachment): string {
  return `${keyOf(attachment)} ${attachment.addresses.join(" ")} ${hostLinkOf(attachment)}`;
}

function seenRecordText({ key, addresses, hostIfname }: SeenRecord): string {
  return `${key} ${addresses.join(" ")} ${hostIfname}`;
}

function inPodOf({ netns, ifname, addresses }: Attachment): string[] {
  return addresses.map((address) => `${netns} ${address} dev ${ifname}`);
}

function inPods({ pods }: Seen): string[] {
  return [...pods].flatMap(([netns, ends]) =>
    ends.flatMap(({ ifname, addresses }) =>
      addresses.length === 0
        ? [`${netns} ${ifname} without address`]
        : addresses.map((address) => `${netns} ${address} dev ${ifname}`),
    ),
  );
}

async function hostNeighbours({ node }: TortureRun): Promise<string[]> {
  const found: { dst: string; dev: string }[] = JSON.parse(
    (await node.netns.ip("-json", "neighbour", "show", "nud", "permanent")) || "[]",
  );
  return found.map(({ dst, dev }) => `${dst} dev ${dev}`);
}

/** Rules of ours in the pods, as "<namespace> <source>". */
async function podRules({ ledger }: TortureRun): Promise<string[]> {
  const names = ledger.places.map(({ netns }) => basename(netns));
  const script = 'for name; do for family in -4 -6; do echo "$name $(ip -n "$name" $family -N -json rule)"; done; done';
  const lines = (await runCommand(["sh", "-c", script, "sh", ...names])).trimEnd().split("\n");
  return lines.flatMap((line) => {
    const at = line.indexOf(" ");
    const rules: { src: string; protocol?: string }[] = JSON.parse(line.slice(at + 1));
    return rules
      .filter(({ protocol }) => protocol === `${ROUTE_PROTOCOL}`)
      .map(({ src }) => `/run/netns/${line.slice(0, at)} ${src}`);
  });
}
