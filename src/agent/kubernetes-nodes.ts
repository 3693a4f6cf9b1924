// SPDX-License-Identifier: Apache-2.0
//
// Kubernetes' nodes as the nodes that routes lead to.
import type { Collection } from "../kube/collection.ts";
import type { KubeNode } from "../kube/objects.ts";
import type { Knowledge, Node, NodeSource } from "../routes/source.ts";
import { mergeNodes } from "./kubernetes-node.ts";
import type { OwnNode } from "./own-node.ts";

/** An API server that restarts, or a watch that is begun anew, is nothing to tell for so long, in milliseconds. */
const STALE_MS = 60_000;
/** Of nodes with something that can't be used so many are told, and how many more there are. */
const TOLD = 3;

export class KubernetesNodes implements NodeSource {
  readonly #nodes: Collection<KubeNode>;
  readonly #own: OwnNode;
  readonly #now: () => number;
  #known: ReadonlyMap<string, Node> = new Map();
  /** What is wrong with some of them. */
  #wrong: string[] = [];
  #list: readonly Node[] = [];
  #stale = true;

  /** @param now ms since 1970 */
  constructor(nodes: Collection<KubeNode>, own: OwnNode, now = Date.now) {
    this.#now = now;
    this.#nodes = nodes;
    this.#own = own;
    // The own one hears of every change of the nodes, and is right by then.
    own.subscribe(() => {
      this.#stale = true;
    });
  }

  async read(): Promise<Knowledge> {
    const { state } = this.#nodes;
    if (state === "unknown") return { nodes: undefined, problem: this.#nodes.problem };
    if (this.#stale) this.#look();
    const problems = [this.#staleness(), this.#own.problem, ...this.#wrong].filter((text) => text !== undefined);
    const problem = problems.length === 0 ? undefined : problems.join("; ");
    return { nodes: this.#list, restored: state === "restored", problem };
  }

  watch(onChange: () => void): { close(): void } {
    return this.#own.subscribe(onChange);
  }

  /** In words that stay the same while it lasts: a standing problem is one line of the log. */
  #staleness(): string | undefined {
    const { state, confirmedAtMs, problem } = this.#nodes;
    if (problem === undefined) return undefined;
    if (state === "synced" && confirmedAtMs !== undefined && this.#now() - confirmedAtMs < STALE_MS) return undefined;
    const since = confirmedAtMs === undefined ? "" : ` since ${new Date(confirmedAtMs).toISOString()}`;
    return `the API server has not been heard of${since}, and the nodes are those of then: ${problem}`;
  }

  #look(): void {
    this.#stale = false;
    this.#known = mergeNodes(this.#nodes.objects, this.#own.node, this.#known);
    this.#list = [...this.#known.values()];
    const wrong = [...this.#nodes.objects.values()].filter(({ problem }) => problem !== undefined);
    this.#wrong = wrong.slice(0, TOLD).map(({ name, problem }) => `node ${name}: ${problem}`);
    if (wrong.length > TOLD) this.#wrong.push(`and ${wrong.length - TOLD} more nodes have something wrong`);
  }
}
