// SPDX-License-Identifier: Apache-2.0
//
// The judgement: what each probe must have shown, and the one line that says whether the network is flat. The sentences
// are the requirements of Kubernetes' network model, so a reader knows which promise is broken.
import type { Cell } from "./cells.ts";
import { addressOf } from "./topology.ts";

/** In the order of their weight: the verdict names the first one that is broken. */
export const REQUIREMENTS = [
  "pods reach pods",
  "pods reach nodes",
  "nodes reach pods",
  "nodes reach nodes",
  "no NAT: the receiver sees the sender's own address",
  "no NAT: the packet reaches the address it was sent to",
  "a pod sees the address others see",
] as const;

export type Requirement = (typeof REQUIREMENTS)[number];

/** What came of a probe. Addresses are canonical text. */
export type Outcome =
  | {
      readonly kind: "answered";
      /** Name of the end that answered. */
      readonly receiver: string;
      /** The sender's address, as the receiver saw it. */
      readonly saw: string;
      /** The address at which the receiver got it. */
      readonly reachedAt: string;
      /** The local address of the sender's socket. */
      readonly local: string;
      /** The addresses that the sender's interfaces have. */
      readonly own: readonly string[];
    }
  | {
      readonly kind: "failed";
      /** Such as "no answer in 1000 ms". */
      readonly error: string;
    };

export interface Failure {
  readonly cell: Cell;
  readonly requirement: Requirement;
  /** What was seen instead. */
  readonly detail: string;
}

/** The requirement that the cell breaks, or undefined when it keeps them all. */
export function judgeCell(cell: Cell, outcome: Outcome): Failure | undefined {
  const broken = (requirement: Requirement, detail: string): Failure => ({ cell, requirement, detail });
  if (outcome.kind === "failed") return broken(reaching(cell), outcome.error);
  const target = addressOf(cell.to, cell.family);
  if (outcome.saw !== outcome.local) {
    return broken(
      "no NAT: the receiver sees the sender's own address",
      `${cell.to.name} saw ${outcome.saw}, the sender's socket has ${outcome.local}`,
    );
  }
  if (outcome.receiver !== cell.to.name || outcome.reachedAt !== target) {
    return broken(
      "no NAT: the packet reaches the address it was sent to",
      `it came to ${outcome.receiver} at ${outcome.reachedAt}`,
    );
  }
  // A node may have more addresses than the one in the topology; a pod has exactly what the network gave it.
  const given = cell.from.kind === "pod" ? addressOf(cell.from, cell.family) : outcome.saw;
  if (outcome.saw !== given) {
    return broken("a pod sees the address others see", `ADD gave ${given}, ${cell.to.name} saw ${outcome.saw}`);
  }
  if (!outcome.own.includes(outcome.saw)) {
    return broken(
      "a pod sees the address others see",
      `${cell.to.name} saw ${outcome.saw}, ${cell.from.name} itself has ${outcome.own.join(", ") || "no address"}`,
    );
  }
  return undefined;
}

function reaching(cell: Cell): Requirement {
  if (cell.from.kind === "pod") return cell.to.kind === "pod" ? "pods reach pods" : "pods reach nodes";
  return cell.to.kind === "pod" ? "nodes reach pods" : "nodes reach nodes";
}

export interface Verdict {
  readonly flat: boolean;
  /** One line, beginning with FLAT, NOT FLAT or NOT CLEAN. */
  readonly text: string;
}

/** "node1-pod2 10.244.1.3 -> node2-pod1 10.244.2.2 (tcp, IPv4)". */
export function describeCell(cell: Cell): string {
  const from = addressOf(cell.from, cell.family) ?? "without address";
  const to = addressOf(cell.to, cell.family) ?? "without address";
  return `${cell.from.name} ${from} -> ${cell.to.name} ${to} (${cell.protocol}, IPv${cell.family})`;
}

/**
 * The line that ends a proof. `failures` are in the order of the cells; `unclean` are sentences about what went wrong when
 * the pods and daemons were taken away again.
 */
export function judge(
  proof: {
    nodes: number;
    pods: number;
    /** Whether pairs of pods were left out. */
    sampled: boolean;
    cells: readonly Cell[];
    failures: readonly Failure[];
  },
  unclean: readonly string[],
): Verdict {
  const first = firstBroken(proof.failures);
  if (first !== undefined) {
    const more = proof.failures.length - 1;
    const tail = more === 0 ? "" : ` (and ${more} more of ${proof.cells.length} cells)`;
    return {
      flat: false,
      text: `NOT FLAT: ${first.requirement}: ${describeCell(first.cell)}: ${first.detail}${tail}`,
    };
  }
  if (unclean.length > 0) {
    const tail = unclean.length === 1 ? "" : ` (and ${unclean.length - 1} more)`;
    return { flat: false, text: `NOT CLEAN: ${unclean[0]}${tail}` };
  }
  const families = [...new Set(proof.cells.map((cell) => `IPv${cell.family}`))].sort().join(" and ");
  return {
    flat: true,
    text:
      `FLAT: ${count(proof.pods, "pod")} on ${count(proof.nodes, "node")}, ` +
      `${count(proof.cells.length, "cell")}${proof.sampled ? " (pairs of pods sampled)" : ""} ` +
      `over ${families}, TCP and UDP: all reached, no NAT`,
  };
}

function firstBroken(failures: readonly Failure[]): Failure | undefined {
  for (const requirement of REQUIREMENTS) {
    const found = failures.find((failure) => failure.requirement === requirement);
    if (found !== undefined) return found;
  }
  return undefined;
}

/** "1 pod", "2 pods". */
export function count(number: number, noun: string): string {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}
