// SPDX-License-Identifier: Apache-2.0
//
// Kubernetes as it is known to this node: read from the API server for as long as the daemon runs, kept on disk for when
// there is none. It is an input only: whoever asks gets what is known now, and nobody waits for an answer of the API server.
import { KubeCache } from "../kube/cache.ts";
import * as cached from "../kube/cached-kinds.ts";
import type { Collection } from "../kube/collection.ts";
import { type ConnectionOptions, openConnection } from "../kube/connection.ts";
import { KubeHttp } from "../kube/http.ts";
import type { KubePod } from "../kube/objects.ts";
import { type KubeObject, Reflector, type Resource } from "../kube/reflector.ts";
import { CLUSTER_NETWORK_POLICIES, NAMESPACES, NETWORK_POLICIES, NODES, PODS, podsOf } from "../kube/resources.ts";
import type { NodeSource } from "../routes/source.ts";
import type { Config } from "./config.ts";
import { CountedWire } from "./counted-wire.ts";
import { KubernetesNodes } from "./kubernetes-nodes.ts";
import type { Log } from "./log.ts";
import type { FollowedKind } from "./metrics.ts";
import { OwnNode } from "./own-node.ts";
import type { PolicyObjects } from "./policy-knowledge.ts";

/** A kind of objects that is followed. */
interface Following {
  readonly kind: string;
  readonly reflector: Reflector<KubeObject>;
  readonly wire: CountedWire;
}

export class Kubernetes {
  /** For whoever has something to ask or to say beside what is followed. */
  readonly http: KubeHttp;
  /** All nodes, for the routes. */
  readonly nodes: NodeSource;
  readonly own: OwnNode;
  /** The pods of this node. */
  readonly ownPods: Collection<KubePod>;
  /** What network policies are made of; undefined where they aren't enforced. */
  readonly policyObjects: PolicyObjects | undefined;
  readonly #cache: KubeCache;
  readonly #following: readonly Following[];

  private constructor(parts: {
    readonly http: KubeHttp;
    readonly own: OwnNode;
    readonly nodes: NodeSource;
    readonly ownPods: Collection<KubePod>;
    readonly policyObjects: PolicyObjects | undefined;
    readonly cache: KubeCache;
    readonly following: readonly Following[];
  }) {
    this.http = parts.http;
    this.own = parts.own;
    this.nodes = parts.nodes;
    this.ownPods = parts.ownPods;
    this.policyObjects = parts.policyObjects;
    this.#cache = parts.cache;
    this.#following = parts.following;
  }

  /**
   * Reads what is on disk. Where that is enough to serve pods, `begin` is left to the caller, to be called once they are: a
   * list of thousands of nodes is a second that they would wait. Where it isn't, it has begun; nothing is waited for.
   * @throws KubeError KUBE_CONFIG when it is nowhere said where the API server is; KubeCacheError
   */
  static async open(
    options: ConnectionOptions,
    { nodeName, stateDir, policy }: Pick<Config, "nodeName" | "stateDir" | "policy">,
    log: Log,
  ): Promise<Kubernetes> {
    const http = new KubeHttp(openConnection(options), { userAgent: "flatnetd" });
    const cache = await KubeCache.open(stateDir, log);
    const following: Following[] = [];
    const follow = async <T extends KubeObject>(kind: string, resource: Resource<T>, form: cached.CachedKind<T>) => {
      const kept = await cache.restore(form);
      const restored = kept && { ...kept, objects: kept.objects.values() };
      const wire = new CountedWire(http);
      const reflector = new Reflector(wire, resource, { restored });
      cache.keep(form, reflector, () => reflector.resourceVersion);
      following.push({ kind, reflector: reflector as unknown as Reflector<KubeObject>, wire });
      return reflector;
    };
    const nodes = await follow("nodes", NODES, cached.NODES);
    const ownPods = await follow("pods", podsOf(nodeName), cached.OWN_PODS);
    const policyObjects = policy.enabled
      ? {
          pods: await follow("all pods", PODS, cached.PODS),
          namespaces: await follow("namespaces", NAMESPACES, cached.NAMESPACES),
          policies: await follow("networkpolicies", NETWORK_POLICIES, cached.NETWORK_POLICIES),
          clusterPolicies: policy.clusterPolicies
            ? await follow("clusternetworkpolicies", CLUSTER_NETWORK_POLICIES, cached.CLUSTER_NETWORK_POLICIES)
            : undefined,
        }
      : undefined;
    const remembered = (await cache.restore(cached.OWN_NODE))?.objects.get(nodeName);
    const own = new OwnNode(nodeName, nodes, remembered);
    cache.keep(cached.OWN_NODE, own);
    const source = new KubernetesNodes(nodes, own);
    const kubernetes = new Kubernetes({ http, own, nodes: source, ownPods, policyObjects, cache, following });
    const isKnown = own.node !== undefined && following.every(({ reflector }) => reflector.state !== "unknown");
    if (!isKnown) kubernetes.begin();
    return kubernetes;
  }

  /** Begins to follow the API server, if that hasn't begun yet. */
  begin(): void {
    for (const { reflector } of this.#following) reflector.start();
  }

  /** How many nodes are known. */
  get nodeCount(): number {
    return this.#following.find(({ kind }) => kind === "nodes")?.reflector.objects.size ?? 0;
  }

  /** The API server, for people. */
  get server(): string {
    return this.http.server;
  }

  followed(): FollowedKind[] {
    return this.#following.map(({ kind, reflector: { objects, confirmedAtMs }, wire: { lists, watches, errors } }) => {
      return { kind, objects: objects.size, confirmedAtMs, lists, watches, errors };
    });
  }

  /** Ends it; what is known is on disk then. */
  async close(): Promise<void> {
    await Promise.all(this.#following.map(({ reflector }) => reflector.stop()));
    this.http.close();
    await this.#cache.close();
  }
}
