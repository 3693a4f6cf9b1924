// SPDX-License-Identifier: Apache-2.0
//
// What has to be true of a node after whatever was done to it, as far as somebody can know who saw only what a runtime
// sees. Pure. A plugin that was killed leaves its attachment open: it may have been done, or not, or half. What is open
// stays so until somebody settles it (a DEL, a GC, a restart of the daemon), and both are allowed until then.

/** Whether something is there; "open" allows either. */
export type Presence = "yes" | "no" | "open";

/** One hostPort as a runtime gives it. */
export interface PortWish {
  readonly hostPort: number;
  readonly containerPort: number;
  readonly protocol: "tcp" | "udp";
  readonly hostIP?: string;
}

/** What an ADD asks for beside a network. */
export interface Wish {
  readonly portMappings: readonly PortWish[];
  readonly ips: readonly string[];
}

export interface ModelPod {
  readonly index: number;
  /** CNI_NETNS. */
  readonly path: string;
  alive: boolean;
}

/** How an attachment's link was made: whole, or by a plugin that was killed in the middle. */
export type Making = "whole" | "cut off";

export interface Attachment {
  readonly containerId: string;
  readonly ifname: string;
  readonly pod: ModelPod;
  readonly hostIfname: string;
  /** What the latest ADD wished that the daemon granted: the record's. */
  wish: Wish;
  /** What later ADDs wished that were cut off, the first first: the record may have become the one's or the other's. */
  perhaps: readonly Wish[];
  /** Its addresses, as ADD said or the daemon listed; undefined when nobody knows. */
  addresses: readonly string[] | undefined;
  record: Presence;
  /** An open record can only be about to appear: nobody is taking it back. */
  onlyAppears: boolean;
  /** "open": its namespace is ending, and the link with it; "unread": to be looked at, since the kernel has decided. */
  link: Presence | "unread";
  making: Making;
  /** What somebody took away from a whole link. */
  missing: Set<Removable>;
  /** Its note in the journal. */
  note: Presence;
  /** ADD's answer, for CHECK. */
  result: object | undefined;
}

/** Parts of an attachment that can be taken away by themselves. */
export type Removable = "host route 4" | "host route 6" | "pod address 6";

/** How a verb may end. `says` has to be in the error's details. */
export type Expected = "success" | { readonly code: number; readonly says?: RegExp };

/** What an ADD says to a foreign interface in the pod, which it finds after the daemon has answered. */
const ALREADY_IN = /already in/;

export const keyOf = ({ containerId, ifname }: { containerId: string; ifname: string }) => `${containerId}/${ifname}`;

const familyOf = (address: string) => (address.includes(":") ? 6 : 4);

export class Model {
  readonly pods: ModelPod[] = [];
  /** Every attachment there ever was, by keyOf. */
  readonly attachments = new Map<string, Attachment>();
  /** How many addresses each family has. */
  readonly capacities: Readonly<Record<4 | 6, number>>;
  daemonUp = true;
  /** Upper bound of temporary files that killed plugins left in the journal. */
  litter = 0;
  /** What was done and what came of it, a line each. */
  readonly story: string[] = [];

  constructor(capacities: Readonly<Record<4 | 6, number>>) {
    this.capacities = capacities;
  }

  #others(attachment: Attachment): Attachment[] {
    return [...this.attachments.values()].filter((other) => other !== attachment);
  }

  /** How an ADD with this wish may end: the first thing that is in its way decides. */
  expectAdd(attachment: Attachment, wish: Wish): Expected[] {
    const { pod } = attachment;
    if (!pod.alive) return [{ code: 4, says: /CNI_NETNS/ }];
    // Seen before the daemon is asked for anything. Killed late enough, its ADD was over.
    const { link, making } = attachment;
    const isUp: Expected[] = link === "yes" ? [{ code: 101, says: /it was added/ }] : [];
    if (link === "yes" && making === "whole") return isUp;
    if (!this.daemonUp) return [...isUp, { code: 11 }];
    const expected = isUp;
    for (const obstacle of this.#obstacles(attachment, wish)) {
      expected.push(...obstacle.outcomes);
      if (obstacle.certain) return expected;
    }
    return [...expected, "success"];
  }

  /** In the order in which they are met. */
  *#obstacles(attachment: Attachment, wish: Wish): Generator<{ certain: boolean; outcomes: Expected[] }> {
    const others = this.#others(attachment);
    const { record, addresses } = attachment;
    const holdsAll = addresses !== undefined && wish.ips.every((ip) => addresses.includes(ip));
    if (record !== "no" && wish.ips.length > 0 && !holdsAll) {
      yield { certain: record === "yes" && addresses !== undefined, outcomes: [{ code: 7, says: /asks for/ }] };
    }
    for (const other of others.filter((one) => one.record !== "no")) {
      const meeting = wishesOf(other).filter((one) => portsMeet(one, wish)).length;
      const certain = other.record === "yes" && meeting === wishesOf(other).length;
      if (meeting > 0) yield { certain, outcomes: [{ code: 11, says: namedIn(keyOf(other)) }] };
    }
    if (record !== "yes") yield* this.#addressObstacles(attachment, wish, others);
    for (const other of others.filter((one) => one.pod === attachment.pod && one.link === "yes")) {
      if (other.ifname === attachment.ifname) yield { certain: true, outcomes: [{ code: 101, says: ALREADY_IN }] };
    }
  }

  *#addressObstacles(
    attachment: Attachment,
    wish: Wish,
    others: Attachment[],
  ): Generator<{ certain: boolean; outcomes: Expected[] }> {
    const certain = attachment.record === "no";
    for (const address of wish.ips) {
      if (isReserved(address)) {
        yield { certain, outcomes: [{ code: 7, says: namedIn(address) }] };
        continue;
      }
      for (const other of others) {
        const mayHave = other.addresses === undefined || other.addresses.includes(address);
        if (other.record === "no" || !mayHave) continue;
        const has = other.record === "yes" && other.addresses !== undefined;
        yield { certain: certain && has, outcomes: [{ code: 11, says: /is held by/ }] };
      }
    }
    const capacity = Math.min(this.capacities[4], this.capacities[6]);
    const least = others.filter(({ record }) => record === "yes").length;
    const most = others.filter(({ record }) => record !== "no").length;
    if (most >= capacity) {
      yield { certain: certain && least >= capacity, outcomes: [{ code: 11, says: /address is left/ }] };
    }
  }

  expectStatus(): Expected[] {
    if (!this.daemonUp) return [{ code: 50 }];
    const capacity = Math.min(this.capacities[4], this.capacities[6]);
    const all = [...this.attachments.values()];
    const least = all.filter(({ record }) => record === "yes").length;
    const most = all.filter(({ record }) => record !== "no").length;
    return [
      ...(least < capacity ? (["success"] as const) : []),
      ...(most >= capacity ? [{ code: 50, says: /in use/ }] : []),
    ];
  }

  /** CHECK of an attachment that an ADD succeeded for. */
  expectCheck(attachment: Attachment): Expected[] {
    const { pod, record, link, making, missing } = attachment;
    if (!pod.alive) return [{ code: 4 }];
    if (!this.daemonUp) return [{ code: 11 }];
    const broken = { code: 102 };
    if (record === "no" || link === "no" || missing.size > 0) return [broken];
    const certain = record === "yes" && link === "yes" && making === "whole" && attachment.perhaps.length === 0;
    return certain ? ["success"] : ["success", broken];
  }

  /** An ADD that ended with an error, and as expected. @param details the error's */
  addFailed(attachment: Attachment, wish: Wish, details: string): void {
    // It may have taken away its own half of a link before it found something in its way.
    if (attachment.making === "cut off") attachment.link = "unread";
    // The daemon had granted it by then, and an attachment that it knew before keeps what was granted.
    if (ALREADY_IN.test(details)) this.#granted(attachment, wish);
  }

  #granted(attachment: Attachment, wish: Wish): void {
    if (attachment.record === "open") attachment.perhaps = [...attachment.perhaps, wish];
    if (attachment.record !== "yes") return;
    attachment.wish = wish;
    attachment.perhaps = [];
  }

  /** An ADD that succeeded. */
  added(attachment: Attachment, wish: Wish, result: { addresses: readonly string[]; document: object }): void {
    attachment.record = "yes";
    attachment.wish = wish;
    attachment.perhaps = [];
    attachment.addresses = result.addresses;
    attachment.link = "yes";
    attachment.making = "whole";
    attachment.missing.clear();
    attachment.result = result.document;
  }

  /** What the daemon may have granted without anybody's hearing of it. */
  perhapsGranted(attachment: Attachment, wish: Wish): void {
    if (attachment.record === "no") attachment.wish = wish;
    else attachment.perhaps = [...attachment.perhaps, wish];
  }

  /** An ADD whose end nobody saw: the plugin was killed. */
  addCutOff(attachment: Attachment, wish: Wish, expected: readonly Expected[]): void {
    this.perhapsGranted(attachment, wish);
    if (attachment.record !== "yes") {
      attachment.onlyAppears = expected.every((outcome) => outcome === "success") && attachment.record === "no";
      attachment.record = "open";
    }
    if (attachment.link === "no" || attachment.making === "cut off") {
      attachment.link = "unread";
      attachment.making = "cut off";
    }
  }

  /** A DEL that ended with success. */
  deleted(attachment: Attachment): void {
    this.#forget(attachment);
    attachment.link = "no";
    if (!this.daemonUp) attachment.note = "yes";
  }

  /** A DEL that was killed. */
  delCutOff(attachment: Attachment): void {
    if (attachment.record === "yes" || attachment.record === "open") {
      attachment.record = "open";
      attachment.onlyAppears = false;
    }
    if (attachment.link === "yes") attachment.link = "unread";
    if (!this.daemonUp) {
      if (attachment.note === "no") attachment.note = "open";
      this.litter++;
    }
  }

  /** A GC that succeeded. */
  collected(valid: ReadonlySet<string>): void {
    for (const attachment of this.attachments.values()) {
      if (valid.has(keyOf(attachment)) || attachment.record === "no") continue;
      // What is open may not have been found, so the link need not be gone by GC's doing; a record without one is.
      if (attachment.record === "yes") attachment.link = "no";
      else if (attachment.link === "yes") attachment.link = "unread";
      this.#forget(attachment);
    }
  }

  vanished(pod: ModelPod): void {
    pod.alive = false;
    for (const attachment of this.attachments.values()) {
      if (attachment.pod !== pod) continue;
      if (attachment.link === "yes") attachment.link = "open";
      if (attachment.record !== "no") attachment.record = "open";
      attachment.onlyAppears = false;
    }
  }

  /** What has no namespace any more has been waited for. */
  retired(): void {
    for (const attachment of this.attachments.values()) if (!attachment.pod.alive) this.#forget(attachment);
  }

  linkRemoved(attachment: Attachment): void {
    attachment.link = "no";
    attachment.missing.clear();
  }

  daemonStopped(): void {
    this.daemonUp = false;
  }

  /** The notes are worked off before it serves, and nothing that it had begun is under way any more. */
  daemonStarted(records: ReadonlySet<string>): void {
    this.daemonUp = true;
    for (const attachment of this.attachments.values()) {
      attachment.note = "no";
      attachment.perhaps = [];
      if (attachment.record !== "open") continue;
      if (!records.has(keyOf(attachment))) this.#forget(attachment);
      else if (attachment.pod.alive) attachment.record = "yes";
    }
  }

  #forget(attachment: Attachment): void {
    attachment.record = "no";
    attachment.perhaps = [];
    attachment.onlyAppears = false;
    attachment.addresses = undefined;
    attachment.missing.clear();
  }
}

/** Each that the record may be of, the oldest first. */
export function wishesOf({ wish, perhaps }: Attachment): readonly Wish[] {
  return [wish, ...perhaps];
}

function namedIn(text: string): RegExp {
  return new RegExp(text.replaceAll(/[.*+?^${}()|[\]\\]/g, "\\$&"));
}

/** The first of an IPv4 subnet of 8 is its own, the last its broadcast; IPv6 keeps the first for its routers. */
function isReserved(address: string): boolean {
  return familyOf(address) === 4 ? /\.[07]$/.test(address) : address.endsWith("::");
}

function portsMeet(a: Wish, b: Wish): boolean {
  return a.portMappings.some((one) =>
    b.portMappings.some(
      (other) =>
        one.protocol === other.protocol &&
        one.hostPort === other.hostPort &&
        (one.hostIP === undefined || other.hostIP === undefined || one.hostIP === other.hostIP),
    ),
  );
}
