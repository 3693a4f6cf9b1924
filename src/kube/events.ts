// SPDX-License-Identifier: Apache-2.0
//
// Events as `kubectl describe` and `kubectl get events` show them: core/v1, whose count, last time and message can be brought
// up to date. (Of events.k8s.io/v1 everything but the series stays as it was made: pkg/apis/core/validation/events.go.)
import { isKubeError, type RequestOptions, withDeadline } from "./client.ts";
import type { KubeError } from "./errors.ts";
import type { KubeWire } from "./http.ts";

/** core/v1 ObjectReference, as far as people need it. */
export interface EventSubject {
  readonly kind: "Node" | "Pod" | "NetworkPolicy" | "ClusterNetworkPolicy";
  /** Empty for what is in none. */
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

export interface KubeEvent {
  readonly namespace: string;
  readonly name: string;
  readonly subject: EventSubject;
  readonly type: "Normal" | "Warning";
  /** Why, one word in CamelCase. */
  readonly reason: string;
  /** For people. */
  readonly message: string;
  readonly count: number;
  /** Milliseconds since 1970. */
  readonly firstMs: number;
  readonly lastMs: number;
}

const API_VERSIONS = {
  Node: "v1",
  Pod: "v1",
  NetworkPolicy: "networking.k8s.io/v1",
  ClusterNetworkPolicy: "policy.networking.k8s.io/v1alpha2",
} as const;

/**
 * What the API server refuses for what it is, and not for now. Forbidden too: that is how a namespace that is ending says so,
 * and one Event must not hold up all that come behind it.
 */
const FINAL: readonly KubeError["code"][] = ["KUBE_REFUSED", "KUBE_NOT_FOUND", "KUBE_CONFLICT", "KUBE_FORBIDDEN"];

export class EventWriter {
  readonly #wire: KubeWire;
  readonly #source: { readonly component: string; readonly host: string };

  /** @param source who reports: a program, and its node */
  constructor(wire: KubeWire, source: { readonly component: string; readonly host: string }) {
    this.#wire = wire;
    this.#source = source;
  }

  /** @returns false when it never can be: its namespace is gone, or the API server finds it malformed. @throws KubeError */
  async create(event: KubeEvent, options: RequestOptions = {}): Promise<boolean> {
    const { namespace, name, subject, type, reason, message, count, firstMs, lastMs } = event;
    const { namespace: inNamespace, ...reference } = subject;
    const body = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { namespace, name },
      involvedObject: {
        apiVersion: API_VERSIONS[subject.kind],
        ...reference,
        ...(inNamespace !== "" && { namespace: inNamespace }),
      },
      ...{ type, reason, message, count, firstTimestamp: timeText(firstMs), lastTimestamp: timeText(lastMs) },
      source: this.#source,
      reportingComponent: this.#source.component,
      reportingInstance: this.#source.host,
    };
    const request = { method: "POST", path: pathOf(namespace), body, ...withDeadline(options) } as const;
    return this.#tried(() => this.#wire.json(request));
  }

  /** Count, last time and message of one that is there. @returns false when there is none. @throws KubeError */
  async update({ namespace, name, count, lastMs, message }: KubeEvent, options: RequestOptions = {}): Promise<boolean> {
    const request = {
      method: "PATCH",
      path: `${pathOf(namespace)}/${encodeURIComponent(name)}`,
      contentType: "application/merge-patch+json",
      body: { count, message, lastTimestamp: timeText(lastMs) },
      ...withDeadline(options),
    } as const;
    return this.#tried(() => this.#wire.json(request));
  }

  async #tried(request: () => Promise<unknown>): Promise<boolean> {
    try {
      await request();
      return true;
    } catch (error) {
      if (FINAL.some((code) => isKubeError(error, code))) return false;
      throw error;
    }
  }
}

/** meta/v1 Time has seconds only. */
function timeText(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

function pathOf(namespace: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/events`;
}
