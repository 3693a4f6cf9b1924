// SPDX-License-Identifier: Apache-2.0
import type { PodName } from "../ipam/records.ts";
import type { Change, Collection } from "../kube/collection.ts";
import { type KubePod, keyOf, type ObjectKey } from "../kube/objects.ts";
import { POD_ANNOTATIONS } from "../kube/pod-annotations.ts";
import type { Notice } from "./event-ledger.ts";

/** Most pods that are remembered: more than a node has. The oldest are forgotten first. */
const MOST = 512;

/** Those of flatnet's own: limits are mostly asked for by the runtime itself. */
const MISSED = [POD_ANNOTATIONS.addresses, POD_ANNOTATIONS.pool, POD_ANNOTATIONS.mtu];

/** Pods that were added while nobody could say what they ask for: once it is known, whoever made them is told. */
export class MissedAnnotations {
  readonly #tell: (notice: Notice) => void;
  readonly #pods = new Map<ObjectKey, PodName>();
  readonly #following: { close(): void };

  constructor(pods: Pick<Collection<KubePod>, "subscribe">, tell: (notice: Notice) => void) {
    this.#tell = tell;
    this.#following = pods.subscribe((changes) => this.#look(changes));
  }

  /** The pod is added without its annotations. */
  added(pod: PodName): void {
    this.#pods.set(keyOf(pod), pod);
    const [oldest = ""] = this.#pods.keys();
    if (this.#pods.size > MOST) this.#pods.delete(oldest);
  }

  close(): void {
    this.#following.close();
  }

  #look(changes: readonly Change<KubePod>[]): void {
    for (const { key, after } of changes) {
      const added = this.#pods.get(key);
      if (added === undefined || after === undefined) continue;
      this.#pods.delete(key);
      const same = added.uid === "" || added.uid === after.uid;
      const missed = MISSED.filter((name) => Object.hasOwn(after.annotations, name));
      if (!same || missed.length === 0) continue;
      const { namespace, name, uid } = after;
      this.#tell({
        subject: { kind: "Pod", namespace, name, uid },
        type: "Warning",
        reason: "NetworkAnnotationMissed",
        message:
          `the pod was added while the API server could not be asked, without what it asks for by ${missed.join(", ")}: ` +
          "delete it, and the one in its place has it",
      });
    }
  }
}
