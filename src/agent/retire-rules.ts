// SPDX-License-Identifier: Apache-2.0
//
// Which attachments are over although nobody said so. Runtimes that never call GC (containerd) and runtimes that crash leave
// attachments without a DEL, and each holds an address for ever. Here is decided, without looking at anything, which of
// them are given up. The one mistake that must not happen is to give up a living one: its address would be given to a
// second pod. So everything that isn't known counts for life, and what is missed now is found by a later pass.
//
// The evidence:
//  1. The host end of a veth pair ends with the pod's namespace, by the kernel's own doing, and while it is there nothing is
//     given up. So for an attachment with a host link the link decides: it has to be gone.
//  2. A namespace's path proves life: what stands there and is a namespace keeps the attachment, link or no link (somebody
//     removed the link of a running pod: CHECK reports that, and the runtime's DEL ends it). Unless it is another one than at the
//     ADD: a path that was used again says nothing of who had it before, but that namespaces are seen there.
//  3. A path proves death only where there is no link to ask, for links that another plugin makes (flatnet-ipam). The daemon
//     may live in another mount namespace than the runtime and see neither the path nor what is mounted on it. So the path
//     must be missing altogether (an unmounted file is what a mount that isn't propagated looks like), its directory must
//     be there, and the daemon must have shown that it can see namespaces in it: this one before, or another one now.
//  4. No namespace outlives the kernel it was in. For an attachment of another boot a missing link, or without a link a path
//     that isn't a namespace, needs no further proof.
//  5. All this has to hold in two passes that are the grace period apart, and in every pass in between: an address is on
//     disk before its ADD has made the link. For an attachment of another boot, whose ADD is over, the next pass will do.
//  6. An ADD that comes meanwhile begins everything anew.
//
// A network's gateway is no attachment of a container: it isn't judged at all.

/** What stands in the place of an attachment's namespace. */
export type NetnsSight =
  /** A network namespace. */
  | "namespace"
  /** Something that is no namespace, or nothing in a directory that is missing too or in which no namespace was ever seen. */
  | "hidden"
  /** A network namespace, but not the one that the latest ADD found there. */
  | "another"
  /** Nothing, in a directory in which the daemon sees namespaces. */
  | "missing"
  /** It couldn't be looked at. */
  | "unknown";

/** What has become of an attachment's host link; "none" when it never had one of its own. */
export type LinkSight = "none" | "present" | "gone" | "unknown";

/** What one pass saw of an attachment. */
export interface Sight {
  readonly link: LinkSight;
  readonly netns: NetnsSight;
}

/** What is known of the attachment itself. */
export interface Candidate {
  /** The boot of its latest ADD is the one the daemon runs in. */
  readonly ofThisBoot: boolean;
  /** When an ADD last asked for it: tells one ADD from the next. */
  readonly confirmedAtMs: number;
}

/** An attachment that looked dead in an earlier pass and in all since. */
export interface Suspicion {
  readonly confirmedAtMs: number;
  /** When it first did, on a clock that is never set. */
  readonly sinceMs: number;
}

export type Verdict =
  | { readonly kind: "keep" }
  | { readonly kind: "suspect"; readonly suspicion: Suspicion }
  | { readonly kind: "retire" };

/**
 * What follows from a pass for one attachment.
 * @param before what followed from the pass before, if it was a suspicion
 * @param nowMs on a clock that is never set
 */
export function judge(
  candidate: Candidate,
  sight: Sight,
  before: Suspicion | undefined,
  nowMs: number,
  graceMs: number,
): Verdict {
  if (!looksDead(sight, candidate.ofThisBoot)) return { kind: "keep" };
  const { confirmedAtMs, ofThisBoot } = candidate;
  if (before === undefined || before.confirmedAtMs !== confirmedAtMs) {
    return { kind: "suspect", suspicion: { confirmedAtMs, sinceMs: nowMs } };
  }
  if (!ofThisBoot || nowMs - before.sinceMs >= graceMs) return { kind: "retire" };
  return { kind: "suspect", suspicion: before };
}

function looksDead({ link, netns }: Sight, ofThisBoot: boolean): boolean {
  if (netns === "namespace" || netns === "unknown") return false;
  if (link !== "none") return link === "gone";
  return netns === "missing" || netns === "another" || !ofThisBoot;
}
