// SPDX-License-Identifier: Apache-2.0
//
// Events (core/v1) made and brought up to date. Which ones, and how often, is decided by who writes them.
import { isKubeError, type RequestOptions, timeText, withDeadline } from "./client.ts";
import type { KubeWire } from "./http.ts";

export interface KubeEvent {
  /** That of `subject`, or "default" where it has none: an Event is in one. */
  readonly namespace: string;
  readonly name: string;
  readonly subject: {
    readonly kind: "Node" | "Pod";
    /** Empty for a node. */
    readonly namespace: string;
    readonly name: string;
    readonly uid: string;
  };
  readonly type: "Normal" | "Warning";
  /** Why, one word in CamelCase. */
  readonly reason: string;
  /** For people. */
  readonly message: string;
  readonly count: number;
  /** When it happened first and last, in milliseconds since 1970. */
  readonly firstMs: number;
  readonly lastMs: number;
}

/** Who says it: `component` is the program, `host` the node that it runs on. */
export interface EventOrigin {
  readonly component: string;
  readonly host: string;
}

export class EventWriter {
  readonly #wire: KubeWire;
  readonly #origin: EventOrigin;

  constructor(wire: KubeWire, origin: EventOrigin) {
    this.#wire = wire;
    this.#origin = origin;
  }

  /**
   * @returns false when it will never be taken: it is malformed, not allowed, or its namespace is going or gone
   * @throws KubeError for what may work later
   */
  async create(event: KubeEvent, options: RequestOptions = {}): Promise<boolean> {
    const { namespace, name, subject, type, reason, firstMs } = event;
    const { component, host } = this.#origin;
    const body = {
      apiVersion: "v1",
      kind: "Event",
      metadata: { namespace, name },
      involvedObject: {
        apiVersion: "v1",
        kind: subject.kind,
        name: subject.name,
        uid: subject.uid,
        ...(subject.namespace !== "" && { namespace: subject.namespace }),
      },
      type,
      reason,
      source: { component, host },
      reportingComponent: component,
      reportingInstance: host,
      firstTimestamp: timeText(firstMs),
      ...recent(event),
    };
    try {
      await this.#wire.json({ method: "POST", path: eventsPath(namespace), body, ...withDeadline(options) });
      return true;
    } catch (error) {
      // An answer that was lost: it is there since the try before.
      if (isKubeError(error, "KUBE_CONFLICT")) return true;
      if (NEVER.some((code) => isKubeError(error, code))) return false;
      throw error;
    }
  }

  /** Brings count, last time and message up to date. @returns false when there is no such Event. @throws KubeError */
  async update(event: KubeEvent, options: RequestOptions = {}): Promise<boolean> {
    try {
      await this.#wire.json({
        method: "PATCH",
        path: `${eventsPath(event.namespace)}/${encodeURIComponent(event.name)}`,
        contentType: "application/merge-patch+json",
        body: recent(event),
        ...withDeadline(options),
      });
      return true;
    } catch (error) {
      if (isKubeError(error, "KUBE_NOT_FOUND")) return false;
      throw error;
    }
  }
}

const NEVER = ["KUBE_REFUSED", "KUBE_FORBIDDEN", "KUBE_NOT_FOUND"] as const;

function recent({ count, lastMs, message }: KubeEvent): object {
  return { count, lastTimestamp: timeText(lastMs), message };
}

function eventsPath(namespace: string): string {
  return `/api/v1/namespaces/${encodeURIComponent(namespace)}/events`;
}
