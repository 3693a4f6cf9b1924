// SPDX-License-Identifier: Apache-2.0
import type { Change, Collection } from "../kube/collection.ts";
import type { KubeNode, ObjectKey } from "../kube/objects.ts";

/**
 * This node's own Node object, as it last had subnets: a Node that is deleted, or made anew and has no subnets yet, must not
 * take the network of running pods along. A collection of one, so that it is kept on disk like the others.
 */
export class OwnNode implements Collection<KubeNode> {
  readonly #name: string;
  readonly #nodes: Collection<KubeNode>;
  readonly #objects = new Map<ObjectKey, KubeNode>();
  readonly #listeners = new Set<(changes: readonly Change<KubeNode>[]) => void>();
  readonly #following: { close(): void };

  /** @param remembered from disk, which the nodes may know nothing of any more */
  constructor(name: string, nodes: Collection<KubeNode>, remembered: KubeNode | undefined) {
    this.#name = name;
    this.#nodes = nodes;
    if (remembered !== undefined) this.#objects.set(name, remembered);
    this.#following = nodes.subscribe(() => this.#follow());
    this.#follow();
  }

  /** Undefined while it isn't known, or has never had subnets. */
  get node(): KubeNode | undefined {
    return this.#objects.get(this.#name);
  }

  get objects(): ReadonlyMap<ObjectKey, KubeNode> {
    return this.#objects;
  }

  get state(): Collection<KubeNode>["state"] {
    return this.#nodes.state;
  }

  get confirmedAtMs(): number | undefined {
    return this.#nodes.confirmedAtMs;
  }

  /** Of what the API server says and what is used instead; undefined when that is the same. */
  get problem(): string | undefined {
    if (this.#nodes.state !== "synced") return undefined;
    const there = this.#nodes.objects.get(this.#name);
    if (there !== undefined && there.podCIDRs.length > 0) return undefined;
    const what = there === undefined ? "is not in Kubernetes" : "has no podCIDRs in Kubernetes";
    return this.node === undefined
      ? `this node, ${this.#name}, ${what}`
      : `this node, ${this.#name}, ${what} any more; it keeps the subnets it had`;
  }

  /** Why there are no subnets yet, for people. */
  get waitsFor(): string {
    return this.problem ?? this.#nodes.problem ?? "the API server has not answered yet";
  }

  subscribe(onChange: (changes: readonly Change<KubeNode>[]) => void): { close(): void } {
    this.#listeners.add(onChange);
    return { close: () => this.#listeners.delete(onChange) };
  }

  close(): void {
    this.#following.close();
  }

  #follow(): void {
    const before = this.node;
    const now = this.#nodes.objects.get(this.#name);
    // Without subnets it may have new addresses already, but nobody asks for them before there are subnets.
    const after = now !== undefined && now.podCIDRs.length > 0 ? now : before;
    const changed = after !== undefined && after !== before;
    if (changed) this.#objects.set(this.#name, after);
    const changes = changed ? [{ key: this.#name, before, after }] : [];
    for (const listener of this.#listeners) listener(changes);
  }
}
