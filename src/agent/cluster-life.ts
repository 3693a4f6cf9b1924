// SPDX-License-Identifier: Apache-2.0
//
// What the daemon asks of the cluster for its pods, and what it tells the cluster: the parts that need an API server beside
// what is followed of it. None of them is waited for.
import { randomBytes } from "node:crypto";
import type { PodWishes } from "../ipam/pod-wishes.ts";
import { KubeClient } from "../kube/client.ts";
import { EventWriter } from "../kube/events.ts";
import type { Prefix } from "../net/prefix.ts";
import type { Config } from "./config.ts";
import type { Notice } from "./event-ledger.ts";
import { Events } from "./events.ts";
import type { ReadPolicy } from "./faulty-policies.ts";
import { KnownPods } from "./known-pods.ts";
import type { Kubernetes } from "./kubernetes.ts";
import type { Log } from "./log.ts";
import { MissedAnnotations } from "./missed-annotations.ts";
import { NodeKeeper } from "./node-keeper.ts";
import { AnnotationWishes } from "./pod-wishes.ts";
import { watchTroubles } from "./trouble-watch.ts";
import type { NodeView } from "./troubles.ts";

/** Least MTU in bytes of pods with an address of the family (RFC 791; RFC 8200, section 5). */
const LEAST_MTU = { 4: 68, 6: 1280 } as const;

export interface NodeLife {
  /** Whether pods can be served. */
  readonly isReady: () => boolean;
  /** What there is to be troubled about. */
  readonly look: () => Promise<NodeView>;
}

export class ClusterLife {
  readonly #config: Pick<Config, "nodeName" | "node">;
  readonly #kubernetes: Kubernetes;
  readonly #client: KubeClient;
  readonly #events: Events;
  /** The pods of ADDs. */
  readonly pods: KnownPods;
  readonly #stopping = new AbortController();
  #missed: MissedAnnotations | undefined;
  readonly #log: Log;

  constructor(config: Pick<Config, "nodeName" | "node">, kubernetes: Kubernetes, log: Log) {
    this.#config = config;
    this.#kubernetes = kubernetes;
    this.#log = log;
    this.#client = new KubeClient(kubernetes.http);
    this.pods = new KnownPods({
      pods: kubernetes.ownPods,
      fetchPod: (namespace, name, signal) => this.#client.getPod(namespace, name, { signal }),
      log,
    });
    this.#events = new Events({ log, now: Date.now, newId: () => randomBytes(8).toString("hex") });
    const writer = new EventWriter(kubernetes.http, { component: "flatnetd", host: config.nodeName });
    const { signal } = this.#stopping;
    this.#events.connect({
      create: (event) => writer.create(event, { signal }),
      update: (event) => writer.update(event, { signal }),
    });
  }

  /** Notices that no Event was written for, and none will be. */
  get eventsDropped(): number {
    return this.#events.dropped;
  }

  /** How many nodes the cluster has. */
  get nodeCount(): number {
    return this.#kubernetes.nodeCount;
  }

  /** Tells the cluster's operators something about this node. Doesn't wait. */
  tell(reason: string, message: string): void {
    this.#events.tell({ subject: this.#subject(), type: "Warning", reason, message });
  }

  /** Tells whoever looks at a policy what of it can't be used. Doesn't wait. */
  tellFaulty(
    kind: "NetworkPolicy" | "ClusterNetworkPolicy",
    { namespace = "", name, uid, problems }: ReadPolicy,
  ): void {
    const message = `allows nothing where it can't be used: ${problems.join("; ")}`;
    this.#events.tell({ subject: { kind, namespace, name, uid }, type: "Warning", reason: "PolicyUnusable", message });
  }

  /**
   * What pods ask for by annotation.
   * @param mtu the node's, in bytes
   */
  wishes({ podCIDRs }: { readonly podCIDRs: readonly Prefix[] }, mtu: () => number): PodWishes {
    const least = LEAST_MTU[podCIDRs.some(({ family }) => family === 6) ? 6 : 4];
    const pods = new KnownPods({
      pods: this.#kubernetes.ownPods,
      fetchPod: (namespace, name, signal) => this.#client.getPod(namespace, name, { signal }),
      log: this.#log,
    });
    const tell = (notice: Notice) => this.#events.tell(notice);
    const missed = new MissedAnnotations(this.#kubernetes.ownPods, tell);
    this.#missed = missed;
    return new AnnotationWishes({
      pods,
      onUnknown: (pod) => missed.added(pod),
      mtuBounds: () => ({ least, most: mtu() }),
      tell,
    });
  }

  /** Begins to speak for a node that serves. @returns what ends that, before what it is about ends */
  begin({ isReady, look }: NodeLife): () => Promise<void> {
    const { nodeName, node } = this.#config;
    const nodes = this.#kubernetes.own;
    const log = this.#log;
    const { startupTaint } = node;
    const keeper = NodeKeeper.start({ nodeName, nodes, client: this.#client, startupTaint, isReady, log });
    const troubles = watchTroubles({ look, tell: ({ reason, message }) => this.tell(reason, message), log });
    return async () => {
      await Promise.all([keeper.stop(), troubles.stop()]);
    };
  }

  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#missed?.close();
    await this.#events.stop();
  }

  /** Its name is its uid: so kubelet does it, and `kubectl describe node` looks for that. */
  #subject(): Notice["subject"] {
    const { nodeName: name } = this.#config;
    return { kind: "Node", namespace: "", name, uid: name };
  }
}
