// SPDX-License-Identifier: Apache-2.0
//
// What pods wish beside what their runtime asks for, and how the two are brought together. Where wishes come from is the
// business of whoever puts the daemon together; what the runtime, or the network's configuration, says itself wins.
import { IpamError } from "./errors.ts";
import type { AllocationRequest } from "./plans.ts";
import type { Bandwidth } from "./records.ts";

/** A wish, and where it stands, for people: "annotation flatnet.dev/pool". */
export interface Wished<T> {
  readonly value: T;
  readonly where: string;
}

/** What is undefined isn't wished. */
export interface PodWish {
  /** Canonical text, at most one a family. */
  readonly addresses: Wished<readonly string[]> | undefined;
  readonly pool: Wished<string> | undefined;
  /** In bytes; one that the node can give to its pods. */
  readonly mtu: number | undefined;
  readonly bandwidth: Bandwidth | undefined;
}

export interface PodWishes {
  /**
   * The wishes of the pod that the request is for; undefined when it has none or nobody knows. It is on every ADD's path, so
   * it waits a fraction of a second at most, and doesn't fail for not knowing.
   * @throws IpamError IPAM_INVALID naming a wish that can't be read or granted
   */
  of(request: Pick<AllocationRequest, "attachment" | "pod">): Promise<PodWish | undefined>;
  /** Told when a wish was refused, after the answer is settled. Must not throw. */
  refused(request: Pick<AllocationRequest, "attachment" | "pod">, reason: string): void;
}

/** A request with the pod's wishes in it, and which of them it has from there. */
export interface WishingRequest {
  readonly request: AllocationRequest;
  readonly sources: Readonly<Partial<Record<"addresses" | "pool", string>>>;
}

/** Pure. */
export function withWish(request: AllocationRequest, wish: PodWish | undefined): WishingRequest {
  if (wish === undefined) return { request, sources: {} };
  const addresses = request.requestedAddresses.length === 0 ? wish.addresses : undefined;
  const pool = request.pool === undefined ? wish.pool : undefined;
  // Without a host end the link is another plugin's, which limits it itself or not at all.
  const bandwidth = request.hostIfname === "" ? undefined : wish.bandwidth;
  return {
    request: {
      ...request,
      ...(addresses !== undefined && { requestedAddresses: addresses.value }),
      ...(pool !== undefined && { pool: pool.value }),
      ...(bandwidth !== undefined && { bandwidth }),
    },
    sources: {
      ...(addresses !== undefined && { addresses: addresses.where }),
      ...(pool !== undefined && { pool: pool.where }),
    },
  };
}

/** The same error, naming where the wish stands that it refuses; undefined when it is about something else. Pure. */
export function refusedWish(error: unknown, sources: WishingRequest["sources"]): IpamError | undefined {
  if (!(error instanceof IpamError) || error.wish === undefined) return undefined;
  const where = sources[error.wish];
  return where === undefined ? undefined : new IpamError(error.code, `${where}: ${error.message}`, error, error.wish);
}
