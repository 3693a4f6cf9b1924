// SPDX-License-Identifier: Apache-2.0
//
// The invariants of the design (docs/architecture.md; an address has one holder, the store and the kernel agree, nothing
// is left behind), as a comparison of the model with what was seen. Pure.

import { type Attachment, keyOf, type Model, type Wish, wishesOf } from "./model.ts";
import type { Seen, SeenEnd, SeenRecord } from "./reality.ts";

const familyOf = (address: string) => (address.includes(":") ? 6 : 4);
const sorted = (texts: readonly string[]) => [...texts].sort().join(", ");

/** Takes into the model what was open and has been seen to be decided. */
export function learn(model: Model, seen: Seen): void {
  const records = new Map(seen.daemon?.records.map((record) => [record.key, record]));
  const notes = new Set(seen.notes);
  for (const attachment of model.attachments.values()) {
    const there = seen.links.has(attachment.hostIfname);
    if (attachment.link === "unread") attachment.link = there ? "yes" : "no";
    if (attachment.link === "open" && !there) attachment.link = "no";
    // Without the daemon nobody but a plugin touches the journal, and none runs.
    if (attachment.note === "open") attachment.note = notes.has(keyOf(attachment)) ? "yes" : "no";
    const record = records.get(keyOf(attachment));
    if (record === undefined || attachment.record === "no") continue;
    attachment.addresses ??= record.addresses;
  }
}

/** What is not as it has to be, a sentence each. */
export function differences(model: Model, seen: Seen): string[] {
  const attachments = [...model.attachments.values()];
  return [
    ...attachments.flatMap((attachment) => linkDifferences(attachment, seen)),
    ...strangers(model, seen),
    ...noteDifferences(model, seen),
    ...recordDifferences(model, seen),
    ...portDifferences(model, seen),
  ];
}

function linkDifferences(attachment: Attachment, seen: Seen): string[] {
  const { hostIfname, link, addresses = [], making, missing } = attachment;
  const name = `${keyOf(attachment)} (${hostIfname})`;
  const there = seen.links.has(hostIfname);
  if (link === "yes" && !there) return [`${name} has lost its link`];
  if (link === "no" && there) return [`${name} still has its link`];
  if (link !== "yes") return [];
  const routes = seen.routes.filter(({ dev }) => dev === hostIfname).map(({ dst }) => dst);
  const end = endOf(attachment, seen);
  if (end === undefined) return [`${name} has no end in its pod`];
  if (making === "cut off")
    return [
      ...beyond(`routes to ${name}`, routes, addresses),
      ...beyond(`addresses in the pod of ${name}`, end.addresses, addresses),
    ];
  const wantedRoutes = addresses.filter((address) => !missing.has(`host route ${familyOf(address)}`));
  const wantedAddresses = addresses.filter((address) => familyOf(address) === 4 || !missing.has("pod address 6"));
  return [
    ...unequal(`routes to ${name}`, routes, wantedRoutes),
    ...unequal(`addresses in the pod of ${name}`, end.addresses, wantedAddresses),
    ...unequal(`default routes of ${name}`, end.defaults.map(String), ["4", "6"]),
  ];
}

function endOf({ pod, ifname }: Attachment, seen: Seen): SeenEnd | undefined {
  return seen.pods.get(pod.path)?.find((end) => end.ifname === ifname);
}

/** Links, routes and interfaces that are nobody's. */
function strangers(model: Model, seen: Seen): string[] {
  const attachments = [...model.attachments.values()];
  const names = new Set(attachments.filter(({ link }) => link !== "no").map(({ hostIfname }) => hostIfname));
  const found = [...seen.links].filter((link) => !names.has(link)).map((link) => `link ${link} is nobody's`);
  for (const { dst, dev } of seen.routes) if (!names.has(dev)) found.push(`the route to ${dst} by ${dev} is nobody's`);
  for (const [path, ends] of seen.pods) {
    for (const { ifname } of ends) {
      const owner = attachments.find(
        (one) => one.pod.path === path && one.ifname === ifname && seen.links.has(one.hostIfname),
      );
      if (owner === undefined) found.push(`interface ${ifname} in ${path} is nobody's`);
    }
  }
  return found;
}

function noteDifferences(model: Model, seen: Seen): string[] {
  const found: string[] = [];
  for (const attachment of model.attachments.values()) {
    const there = seen.notes.includes(keyOf(attachment));
    if (attachment.note === "yes" && !there) found.push(`the note of ${keyOf(attachment)} is gone`);
    if (attachment.note === "no" && there) found.push(`there is a note of ${keyOf(attachment)}`);
  }
  for (const key of seen.notes) if (!model.attachments.has(key)) found.push(`there is a note of a stranger, ${key}`);
  if (seen.litter.length > model.litter) found.push(`the journal has ${seen.litter.join(", ")}`);
  return found;
}

function recordDifferences(model: Model, seen: Seen): string[] {
  if (seen.daemon === undefined) return [];
  const { records, used } = seen.daemon;
  const found: string[] = [];
  const byKey = new Map(records.map((record) => [record.key, record]));
  for (const attachment of model.attachments.values()) {
    found.push(...recordDifference(attachment, byKey.get(keyOf(attachment)), seen));
  }
  for (const { key } of records) if (!model.attachments.has(key)) found.push(`there is a record of a stranger, ${key}`);
  const held = records.flatMap(({ addresses }) => addresses);
  for (const [i, address] of held.entries()) {
    if (held.indexOf(address) !== i) found.push(`${address} has two holders`);
  }
  // The counts know of decisions that are not on disk yet.
  const settled = [...model.attachments.values()].every(({ record }) => record !== "open");
  if (settled) {
    for (const count of used) {
      if (count !== records.length) found.push(`${count} addresses are in use, by ${records.length} records`);
    }
  }
  return found;
}

function recordDifference(attachment: Attachment, record: SeenRecord | undefined, seen: Seen): string[] {
  const key = keyOf(attachment);
  if (record === undefined) {
    if (attachment.record === "yes") return [`the record of ${key} is gone`];
    // A link goes before its address is given back, or another pod could have it.
    return attachment.link === "yes" ? [`${key} has a link and no record`] : [];
  }
  if (attachment.record === "no") return [`there is a record of ${key}: ${record.addresses.join(", ")}`];
  const end = endOf(attachment, seen);
  return [
    ...unequal(`recorded addresses of ${key}`, record.addresses, attachment.addresses ?? []),
    ...unequal(`recorded link of ${key}`, [record.hostIfname], [attachment.hostIfname]),
    ...unequal(`recorded namespace of ${key}`, [record.netns], [attachment.pod.path]),
    ...(recordedWishes(attachment, record).length > 0
      ? []
      : unequal(`recorded ports of ${key}`, record.ports, askedIn(attachment.wish))),
    ...(attachment.link === "yes" && end !== undefined
      ? beyond(`addresses in the pod of ${key}`, end.addresses, record.addresses)
      : []),
  ];
}

/**
 * Takes into the model what records have decided: that they have appeared, and which wish they are of where several were
 * possible, since nothing goes back to one before it. Only once all has been compared: a record's ports are in the kernel
 * a moment after it is on disk.
 */
export function settle(model: Model, seen: Seen): void {
  for (const record of seen.daemon?.records ?? []) {
    const attachment = model.attachments.get(record.key);
    if (attachment === undefined) continue;
    if (attachment.record === "open" && attachment.onlyAppears && attachment.pod.alive) attachment.record = "yes";
    const [first, ...later] = recordedWishes(attachment, record);
    if (first === undefined) continue;
    attachment.wish = first;
    attachment.perhaps = later;
  }
}

/** From the first wish on that the record agrees with, all that may be the record's. */
function recordedWishes(attachment: Attachment, record: SeenRecord): readonly Wish[] {
  const wishes = wishesOf(attachment);
  const first = wishes.findIndex((wish) => sorted(askedIn(wish)) === sorted(record.ports));
  return first < 0 ? [] : wishes.slice(first);
}

/** Each hostPort of a wish as a record has it. */
function askedIn({ portMappings }: Wish): string[] {
  return portMappings.map(
    ({ protocol, hostPort, hostIP, containerPort }) =>
      `${protocol} ${hostPort} on ${hostIP ?? "*"} to ${containerPort}`,
  );
}

/** Each hostPort of a wish as the kernel's maps have it. */
function elementsOf({ portMappings }: Wish, addresses: readonly string[]): string[] {
  return portMappings.flatMap(({ protocol, hostPort, hostIP, containerPort }) =>
    addresses
      .filter((address) => hostIP === undefined || familyOf(address) === familyOf(hostIP))
      .map((address) => `${protocol} ${hostPort} on ${hostIP ?? "*"} to ${address}:${containerPort}`),
  );
}

function portDifferences(model: Model, seen: Seen): string[] {
  if (seen.daemon === undefined) return [];
  const { ports } = seen.daemon;
  const attachments = [...model.attachments.values()];
  const elements = (attachment: Attachment) =>
    wishesOf(attachment).flatMap((wish) => elementsOf(wish, attachment.addresses ?? []));
  const isSettled = ({ record, perhaps }: Attachment) => record === "yes" && perhaps.length === 0;
  const must = attachments.filter(isSettled).flatMap(elements);
  const may = attachments.filter((attachment) => attachment.record !== "no" && !isSettled(attachment));
  const found = must.filter((port) => !ports.includes(port)).map((port) => `the kernel has no port ${port}`);
  // Where an open attachment's addresses were never seen, its ports can't be told from others.
  const unknown = may.some(
    (attachment) =>
      attachment.addresses === undefined && wishesOf(attachment).some(({ portMappings }) => portMappings.length > 0),
  );
  const known = new Set([...must, ...may.flatMap(elements)]);
  if (!unknown) found.push(...ports.filter((port) => !known.has(port)).map((port) => `port ${port} is nobody's`));
  return found;
}

function unequal(what: string, seen: readonly string[], wanted: readonly string[]): string[] {
  return sorted(seen) === sorted(wanted) ? [] : [`${what}: [${sorted(seen)}], not [${sorted(wanted)}]`];
}

function beyond(what: string, seen: readonly string[], allowed: readonly string[]): string[] {
  const more = seen.filter((text) => !allowed.includes(text));
  return more.length === 0 ? [] : [`${what}: [${sorted(more)}] beyond [${sorted(allowed)}]`];
}
