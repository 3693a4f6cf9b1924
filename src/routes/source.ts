// SPDX-License-Identifier: Apache-2.0
//
// Where the daemon learns which node has which subnets, whoever says so: a file, Kubernetes, a test.
import type { Prefix } from "../net/prefix.ts";

export interface Node {
  readonly name: string;
  /** The node's own addresses, at most one a family: next hops of the routes to its subnets. 4 or 16 bytes. */
  readonly addresses: readonly Uint8Array[];
  readonly podCIDRs: readonly Prefix[];
}

/** This node, as its own daemon was told. */
export interface Self {
  readonly name: string;
  readonly podCIDRs: readonly Prefix[];
}

/** What a source knows now. */
export interface Knowledge {
  /**
   * Every node there is, none twice by name; undefined until there has been a first full read, because until then a node that
   * is missing may only not have been read yet. A node that hasn't changed is the same object as before.
   */
  readonly nodes: readonly Node[] | undefined;
  /**
   * Whether the nodes are only as they once were, from disk, because there has been no full read yet. They have their routes,
   * but nothing follows from a node that is missing. Never so again after it was not.
   */
  readonly restored?: boolean;
  /** Why that may be old, for people; undefined when it isn't. */
  readonly problem: string | undefined;
}

export interface NodeSource {
  /** Looks again, which is cheap when nothing has changed. Never throws: what is wrong is in the answer. */
  read(): Promise<Knowledge>;
  /**
   * Calls `onChange` when it may be worth to read again, until it is closed. It is a short-cut: whoever reads at intervals
   * learns the same, later.
   */
  watch(onChange: () => void): { close(): void };
}

/** A source that never changes: of a node without peers. */
export function fixedSource(nodes: readonly Node[]): NodeSource {
  return { read: async () => ({ nodes, problem: undefined }), watch: () => ({ close: () => {} }) };
}
