// SPDX-License-Identifier: Apache-2.0
//
// Says to the cluster that this node has a network: the condition NetworkUnavailable=False, and the start-up taint gone, once
// pods can be served; and again whenever somebody has changed it. An API server that is away hears it later.
import type { KubeClient } from "../kube/client.ts";
import type { Collection } from "../kube/collection.ts";
import type { KubeNode } from "../kube/objects.ts";
import type { Log } from "./log.ts";
import { Loop } from "./loop.ts";
import { type NodeStep, planNode, WritePace } from "./node-plan.ts";

export interface NodeKeeperOptions {
  readonly nodeName: string;
  readonly nodes: Collection<KubeNode>;
  readonly client: Pick<KubeClient, "setNodeCondition" | "removeNodeTaint">;
  /** Key of the taint that keeps pods off until then; absent when there is none. */
  readonly startupTaint: string | undefined;
  /** Whether pods can be served: the routes are in order, the plugin and the conflist are in place. */
  readonly isReady: () => boolean;
  readonly log: Log;
  /** In milliseconds, on a clock that is never set. */
  readonly now?: () => number;
}

/** Changes of a node come in bursts while it registers. */
const SETTLE_MS = 100;
/** Between looks that nothing asked for: what is known of the node costs no request. */
const INTERVAL_MS = 2_000;

export class NodeKeeper {
  readonly #options: NodeKeeperOptions;
  readonly #pace = new WritePace();
  readonly #loop: Loop;
  readonly #following: { close(): void };
  readonly #stopping = new AbortController();
  /** Since a write worked last. */
  #failing = false;

  private constructor(options: NodeKeeperOptions) {
    this.#options = options;
    this.#loop = new Loop(() => this.#pass(), {
      name: "node object",
      settleMs: SETTLE_MS,
      intervalMs: INTERVAL_MS,
      retryMs: INTERVAL_MS,
      onError: (err) => this.#failed(err),
    });
    this.#following = options.nodes.subscribe((changes) => {
      if (changes.some(({ key }) => key === options.nodeName)) this.#loop.request();
    });
  }

  /** Begins to look after this node's Node object. */
  static start(options: NodeKeeperOptions): NodeKeeper {
    const keeper = new NodeKeeper(options);
    keeper.#loop.request();
    return keeper;
  }

  /** What was said stays: pods keep their network while the daemon is away. */
  async stop(): Promise<void> {
    this.#following.close();
    this.#stopping.abort();
    await this.#loop.stop();
  }

  async #pass(): Promise<void> {
    const { nodeName, nodes, startupTaint, isReady, now = () => performance.now() } = this.#options;
    // What was known before the API server is heard of may not be so any more.
    const node = nodes.state === "synced" && nodes.problem === undefined ? nodes.objects.get(nodeName) : undefined;
    if (node === undefined || !isReady()) return;
    const steps = planNode(node, startupTaint);
    if (steps.length === 0 || !this.#pace.mayWrite(now())) return;
    this.#pace.wrote(now());
    for (const step of steps) await this.#take(step);
    this.#failing = false;
  }

  async #take(step: NodeStep): Promise<void> {
    const { nodeName, client, log } = this.#options;
    const { signal } = this.#stopping;
    if (step.kind === "condition") {
      const condition = {
        type: "NetworkUnavailable",
        status: "False",
        reason: "FlatnetIsUp",
        message: "flatnet has this node's routes in order and serves its pods",
      } as const;
      if (await client.setNodeCondition(nodeName, condition, { signal })) {
        log.info({ condition: "NetworkUnavailable=False" }, "the cluster knows that this node has a network");
      }
    } else if (await client.removeNodeTaint(nodeName, step.key, { signal })) {
      log.info({ taint: step.key }, "the start-up taint is taken off this node");
    }
  }

  /** A line for each outage, not for each try. */
  #failed(err: unknown): void {
    if (this.#failing || this.#stopping.signal.aborted) return;
    this.#failing = true;
    this.#options.log.warn({ err }, "the cluster can't be told that this node has a network; it is tried again");
  }
}
