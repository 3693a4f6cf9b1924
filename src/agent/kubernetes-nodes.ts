// SPDX-License-Identifier: Apache-2.0
//
// Kubernetes' nodes as the nodes that routes lead to.
import type { Collection } from "../kube/collection.ts";
import type { KubeNode } from "../kube/objects.ts";
import type { Knowledge, Node, NodeSource } from "../routes/source.ts";
import { mergeNodes } from "./kubernetes-node.ts";
import type { OwnNode } from "./own-node.ts";

/** Of nodes with something that can't be used so many are told, and how many more there are. */
const TOLD = 3;

export class KubernetesNodes implements NodeSource {
  readonly #nodes: Collection<KubeNode>;
  readonly #own: OwnNode;
  #known: ReadonlyMap<string, Node> = new Map();
  /** What is wrong with some of them. */
  #wrong: string[] = [];
  #list: readonly Node[] = [];
  #stale = true;

  constructor(nodes: Collection<KubeNode>, own: OwnNode) {
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
    const problems = [this.#nodes.problem, this.#own.problem, ...this.#wrong].filter((text) => text !== undefined);
    const problem = problems.length === 0 ? undefined : problems.join("; ");
    return { nodes: this.#list, restored: state === "restored", problem };
  }

  watch(onChange: () => void): { close(): void } {
    return this.#own.subscribe(onChange);
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
