// SPDX-License-Identifier: Apache-2.0
//
// What pods wish by their annotations, for the address service.
import { IpamError } from "../ipam/errors.ts";
import type { AllocationRequest } from "../ipam/plans.ts";
import type { PodWish, PodWishes, Wished } from "../ipam/pod-wishes.ts";
import type { PodName } from "../ipam/records.ts";
import type { Words } from "../kube/objects.ts";
import { annotationProblem, POD_ANNOTATIONS, readPodAnnotations } from "../kube/pod-annotations.ts";
import type { Notice } from "./event-ledger.ts";
import type { KnownPods } from "./known-pods.ts";

/** The interface of the cluster's own network, in every runtime; others of a pod ask by their own configuration. */
const POD_IFNAME = "eth0";

/** MTUs in bytes that the node can give its pods. */
export interface MtuBounds {
  readonly least: number;
  readonly most: number;
}

export interface AnnotationWishesOptions {
  readonly pods: Pick<KnownPods, "find">;
  /** Told of each pod whose wishes nobody can say. */
  readonly onUnknown: (pod: PodName) => void;
  readonly mtuBounds: () => MtuBounds;
  /** Tells the cluster. Must not wait. */
  readonly tell: (notice: Notice) => void;
}

export class AnnotationWishes implements PodWishes {
  readonly #options: AnnotationWishesOptions;

  constructor(options: AnnotationWishesOptions) {
    this.#options = options;
  }

  async of({ attachment, pod }: Pick<AllocationRequest, "attachment" | "pod">): Promise<PodWish | undefined> {
    if (pod === undefined || pod.name === "" || pod.namespace === "" || attachment.ifname !== POD_IFNAME) {
      return undefined;
    }
    const known = await this.#options.pods.find(pod);
    if (known === undefined) {
      this.#options.onUnknown(pod);
      return undefined;
    }
    const { wish, problems } = readWish(known.annotations, this.#options.mtuBounds());
    if (problems.length === 0) return wish;
    const reason = problems.join("; ");
    this.#tell({ ...pod, uid: known.uid }, reason);
    throw new IpamError("IPAM_INVALID", reason);
  }

  refused({ pod }: Pick<AllocationRequest, "attachment" | "pod">, reason: string): void {
    if (pod !== undefined) this.#tell(pod, reason);
  }

  #tell({ namespace, name, uid }: PodName, message: string): void {
    const subject = { kind: "Pod", namespace, name, uid } as const;
    this.#options.tell({ subject, type: "Warning", reason: "NetworkAnnotationRefused", message });
  }
}

/** Pure. */
export function readWish(words: Words, { least, most }: MtuBounds): { wish: PodWish; problems: readonly string[] } {
  const { annotations, problems } = readPodAnnotations(words);
  const { addresses, pool, mtu, ingressRate = 0, egressRate = 0 } = annotations;
  const fits = mtu === undefined || (mtu >= least && mtu <= most);
  const rule = `${least} to ${most}, as the node's links and its families of addresses have it`;
  return {
    wish: {
      addresses: addresses.length === 0 ? undefined : wished(POD_ANNOTATIONS.addresses, addresses),
      pool: pool === undefined ? undefined : wished(POD_ANNOTATIONS.pool, pool),
      mtu,
      bandwidth: ingressRate + egressRate === 0 ? undefined : { ingressRate, egressRate },
    },
    problems: fits ? problems : [...problems, annotationProblem(POD_ANNOTATIONS.mtu, `${mtu}`, rule)],
  };
}

function wished<T>(name: string, value: T): Wished<T> {
  return { value, where: `annotation ${name}` };
}
