// SPDX-License-Identifier: Apache-2.0
//
// What is to be proven: one cell for each direction, family and protocol between two ends.
import type { Family } from "../net/address.ts";
import { type End, endsOf, familiesOf, type Topology } from "./topology.ts";

export type Protocol = "tcp" | "udp";

export interface Cell {
  readonly from: End;
  readonly to: End;
  readonly family: Family;
  readonly protocol: Protocol;
}

/** Above this number of pods not every pair of pods is probed: pairs grow with its square. */
export const MAX_PODS_IN_FULL = 50;

/** Whether `planCells` leaves pairs of pods out. */
export function isSampled(topology: Topology): boolean {
  return topology.nodes.reduce((sum, node) => sum + node.pods.length, 0) > MAX_PODS_IN_FULL;
}

/**
 * The cells of a proof: pod to pod, pod to node, node to pod, and node to node, each for every family over TCP and UDP.
 * Sampled, the i-th pod of a node probes one pod of every node, in such a way that for each ordered pair of nodes every
 * pod of the first sends and every pod of the second receives; everything with a node in it stays complete.
 */
export function planCells(topology: Topology): Cell[] {
  const ends = endsOf(topology);
  const sampled = isSampled(topology);
  const families = familiesOf(topology.family);
  const nodeIndex = new Map(topology.nodes.map((node, index) => [node.name, index]));
  const podIndex = new Map(topology.nodes.flatMap((node) => node.pods.map((pod, index) => [pod.name, index])));
  const cells: Cell[] = [];
  for (const from of ends) {
    for (const to of ends) {
      if (from === to) continue;
      if (sampled && from.kind === "pod" && to.kind === "pod") {
        const count = topology.nodes[nodeIndex.get(to.node) as number]?.pods.length as number;
        // A shift of one on the same node keeps a pod from being paired with itself.
        const shift = from.node === to.node ? 1 : (nodeIndex.get(from.node) as number);
        if (((podIndex.get(from.name) as number) + shift) % count !== podIndex.get(to.name)) continue;
      }
      for (const family of families) for (const protocol of PROTOCOLS) cells.push({ from, to, family, protocol });
    }
  }
  // Pods first: what they are owed is why the network exists, so a verdict names one of their pairs if it can.
  return cells.sort((a, b) => weight(a) - weight(b));
}

function weight({ from, to }: Cell): number {
  return (from.kind === "pod" ? 0 : 2) + (to.kind === "pod" ? 0 : 1);
}

export const PROTOCOLS: readonly Protocol[] = ["tcp", "udp"];
