// SPDX-License-Identifier: Apache-2.0
//
// Single requests to the API: what the agent asks and writes besides what it watches. Each has a deadline.
import { KubeError } from "./errors.ts";
import type { KubeWire } from "./http.ts";
import type { KubeNode, KubePod } from "./objects.ts";
import { parseNode } from "./parse-node.ts";
import { parsePod } from "./parse-pod.ts";
import { fieldsOf, listOf, type Raw, textOf } from "./raw.ts";

/** Most time for one request, in milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
/** How often a write is tried again that somebody else's write crossed. */
const CONFLICTS_MAX = 5;

const MERGE_PATCH = "application/merge-patch+json";
const STRATEGIC_MERGE_PATCH = "application/strategic-merge-patch+json";

/** core/v1 NodeCondition, without its times. */
export interface NodeCondition {
  /** "NetworkUnavailable" */
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  /** One word in CamelCase. */
  readonly reason: string;
  /** For people. */
  readonly message: string;
}

export interface RequestOptions {
  /** Most time in milliseconds, 10 s unless told. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal;
}

export class KubeClient {
  readonly #wire: KubeWire;
  readonly #nowMs: () => number;

  /** @param nowMs milliseconds since 1970 */
  constructor(wire: KubeWire, nowMs: () => number = Date.now) {
    this.#wire = wire;
    this.#nowMs = nowMs;
  }

  /** @returns undefined when there is none. @throws KubeError */
  async getPod(namespace: string, name: string, options: RequestOptions = {}): Promise<KubePod | undefined> {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
    return parsePod(await this.#get(path, options));
  }

  /** @returns undefined when there is none. @throws KubeError */
  async getNode(name: string, options: RequestOptions = {}): Promise<KubeNode | undefined> {
    return parseNode(await this.#get(nodePath(name), options));
  }

  /**
   * Says something about a node in its status. Nothing is written when that is said already; then the condition's times stay.
   * @returns whether it was written
   * @throws KubeError
   */
  async setNodeCondition(nodeName: string, condition: NodeCondition, options: RequestOptions = {}): Promise<boolean> {
    const node = await this.#mustGetNode(nodeName, options);
    const { type, status, reason, message } = condition;
    const before = listOf(fieldsOf(node["status"])["conditions"])
      .map(fieldsOf)
      .find((other) => other["type"] === type);
    const same = before?.["status"] === status;
    // The API server leaves empty texts out.
    if (same && textOf(before?.["reason"]) === reason && textOf(before?.["message"]) === message) return false;
    const now = timeText(this.#nowMs());
    const lastTransitionTime = same ? (before?.["lastTransitionTime"] ?? now) : now;
    await this.#patch(
      `${nodePath(nodeName)}/status`,
      STRATEGIC_MERGE_PATCH,
      // Conditions are merged by their type, so that nobody else's are touched.
      { status: { conditions: [{ type, status, reason, message, lastHeartbeatTime: now, lastTransitionTime }] } },
      options,
    );
    return true;
  }

  /**
   * Takes the taints with this key off a node. A list of taints has no merging that could remove one, so the list is written
   * as it was read without them, on condition that nobody wrote the node meanwhile; otherwise it is read again.
   * @returns whether there was one
   * @throws KubeError, KUBE_CONFLICT when others write it all the time
   */
  async removeNodeTaint(nodeName: string, key: string, options: RequestOptions = {}): Promise<boolean> {
    for (let conflicts = 0; ; conflicts++) {
      const node = await this.#mustGetNode(nodeName, options);
      const taints = listOf(fieldsOf(node["spec"])["taints"]);
      const others = taints.filter((taint) => fieldsOf(taint)["key"] !== key);
      if (others.length === taints.length) return false;
      const { resourceVersion } = fieldsOf(node["metadata"]);
      const patch = { metadata: { resourceVersion }, spec: { taints: others.length === 0 ? null : others } };
      try {
        await this.#patch(nodePath(nodeName), MERGE_PATCH, patch, options);
        return true;
      } catch (error) {
        if (!isKubeError(error, "KUBE_CONFLICT") || conflicts >= CONFLICTS_MAX) throw error;
      }
    }
  }

  async #mustGetNode(name: string, options: RequestOptions): Promise<Raw> {
    const node = await this.#get(nodePath(name), options);
    if (node !== undefined) return fieldsOf(node);
    throw new KubeError("KUBE_NOT_FOUND", `there is no node ${JSON.stringify(name)}`, { status: 404 });
  }

  async #get(path: string, options: RequestOptions): Promise<unknown> {
    try {
      return await this.#wire.json({ method: "GET", path, ...withDeadline(options) });
    } catch (error) {
      if (isKubeError(error, "KUBE_NOT_FOUND")) return undefined;
      throw error;
    }
  }

  async #patch(path: string, contentType: string, body: unknown, options: RequestOptions): Promise<void> {
    await this.#wire.json({ method: "PATCH", path, contentType, body, ...withDeadline(options) });
  }
}

/** A request's bounds. */
export function withDeadline({ timeoutMs = REQUEST_TIMEOUT_MS, signal }: RequestOptions) {
  return { timeoutMs, signal };
}

export function isKubeError(error: unknown, code: KubeError["code"]): error is KubeError {
  return error instanceof KubeError && error.code === code;
}

/** meta/v1 Time has seconds only. */
export function timeText(ms: number): string {
  return new Date(ms).toISOString().replace(/\.\d+Z$/, "Z");
}

function nodePath(name: string): string {
  return `/api/v1/nodes/${encodeURIComponent(name)}`;
}
