// SPDX-License-Identifier: Apache-2.0
//
// What the allocator is asked for, and what it answers: decisions as data.
import type { Family } from "../net/address.ts";
import type { Attachment } from "../net/names.ts";
import type { SubnetCounts } from "./address-space.ts";
import type { PodEnd } from "./pod-end.ts";
import type { AllocationRecord, Bandwidth, Change, PodName, PortMapping, Sticky } from "./records.ts";

/** A wish for addresses, already validated. */
export interface AllocationRequest {
  readonly attachment: Attachment;
  readonly pod: PodName | undefined;
  readonly netns: string;
  readonly hostIfname: string;
  /** Canonical text, at most one a family. The other families get any address. */
  readonly requestedAddresses: readonly string[];
  /** No two claim one port for different ports of the container. */
  readonly portMappings: readonly PortMapping[];
  /** The network is to have a gateway address in the subnet of each address. */
  readonly withGateway: boolean;
  /** DNS names, none twice. */
  readonly aliases: readonly string[];
  /** The pod's end of the link, where the plugin makes one. */
  readonly podEnd?: PodEnd | undefined;
  /** Name of the pool that the addresses are to be of; without it the pod's namespace decides. */
  readonly pool?: string | undefined;
  /** Whom the addresses are kept for when they are given back, and who gets those that were. */
  readonly sticky?: Sticky | undefined;
  /** The pod's limits, for a runtime that says none. */
  readonly bandwidth?: Bandwidth | undefined;
}

/** Which addresses an attachment gets, and where they are. */
export interface Granted {
  readonly record: AllocationRecord;
  /** To be made durable together; the last one is the attachment's. */
  readonly changes: readonly Change[];
  /** The subnet of each address, in canonical text; of one that is in no subnet of ours any more, the address itself. */
  readonly subnets: readonly string[];
  /** The network's gateway in each of them; empty unless asked for. */
  readonly gateways: readonly string[];
  /** An address is used again before its rest was over, because no other was left or because it was asked for. */
  readonly restCutShort: boolean;
  /** Whom the addresses were kept for, and who loses them because nothing else was left. */
  readonly takenFrom: readonly string[];
  /** Those of the addresses given now, gateways too, that somebody had before. */
  readonly usedBefore: readonly string[];
}

/** Who has the addresses of a pool, for people to see where they went. */
export interface Holders {
  readonly total: number;
  /** The namespaces, or networks, with the most, most first. */
  readonly most: readonly { readonly name: string; readonly count: number }[];
  /** How many further ones there are. */
  readonly others: number;
  /** The allocation made longest ago. */
  readonly oldest: AllocationRecord | undefined;
}

/** Why an attachment gets nothing. Nothing of any family is given then. */
export type Refusal =
  /** No address of this family is left in the pool, or too few for the attachment and its network's gateway. */
  | {
      readonly kind: "exhausted";
      readonly family: Family;
      readonly pool: string;
      readonly subnets: readonly SubnetCounts[];
      readonly holders: Holders;
      /** How many milliseconds it takes until one that rests is free; undefined when none does. */
      readonly nextFreeMs: number | undefined;
    }
  /** None of the subnets, whose texts these are, gives out an address that was asked for. */
  | {
      readonly kind: "outOfRange";
      readonly address: string;
      /** The subnet that has it and keeps it back. */
      readonly reservedIn: string | undefined;
      /** The excluded range that has it. */
      readonly excludedBy: string | undefined;
      readonly subnets: readonly string[];
    }
  /** An address that was asked for is in a subnet that gives out no more. */
  | { readonly kind: "draining"; readonly address: string; readonly subnet: string }
  /** An address that was asked for is in another pool than the attachment's. */
  | { readonly kind: "otherPool"; readonly address: string; readonly pool: string; readonly wanted: string }
  /** There is no such pool. */
  | { readonly kind: "unknownPool"; readonly pool: string; readonly known: readonly string[] }
  /** An address that was asked for is somebody's. */
  | { readonly kind: "addressTaken"; readonly address: string; readonly holder: AllocationRecord }
  /** An address that was asked for is kept for somebody who may come back for it. */
  | { readonly kind: "addressKept"; readonly address: string; readonly owner: string; readonly forMs: number }
  /** The name of the host link is somebody's. */
  | { readonly kind: "linkTaken"; readonly hostIfname: string; readonly holder: AllocationRecord }
  /** A port that was asked for is somebody's. */
  | {
      readonly kind: "portTaken";
      readonly wanted: PortMapping;
      readonly held: PortMapping;
      readonly holder: AllocationRecord;
    }
  /** The attachment holds other addresses than it asks for. */
  | { readonly kind: "differs"; readonly requested: readonly string[]; readonly record: AllocationRecord }
  /** The attachment holds an address of a subnet that gives out no more, or is not ours any more: no gateway can be had there. */
  | { readonly kind: "noGateway"; readonly address: string; readonly record: AllocationRecord };

export type AllocatePlan =
  | (Granted & { readonly kind: "new" })
  /** The attachment holds addresses; it keeps them. */
  | (Granted & { readonly kind: "existed" })
  | Refusal;

export type AdoptPlan =
  | { readonly kind: "adopted"; readonly change: Change }
  /** The attachment holds exactly these addresses. */
  | { readonly kind: "existed" }
  | Refusal;

export type ReleasePlan =
  | { readonly kind: "released"; readonly record: AllocationRecord; readonly change: Change }
  | { readonly kind: "unknown" }
  /** The DEL was for an earlier life of the attachment, which has been added again since. */
  | { readonly kind: "readded"; readonly record: AllocationRecord };
