// SPDX-License-Identifier: Apache-2.0
//
// The node's subnets and the pools they are divided into: where an address is, and what may be given out of which pool.
import { type Family, familyOf, formatAddress, parseAddress } from "../net/address.ts";
import { addressAt, addressNumber, formatPrefix, indexOf, type Prefix, prefixSize } from "../net/prefix.ts";
import { type AddressRules, DEFAULT_POOL, layOut } from "./layout.ts";
import { Pool, type Span } from "./pool.ts";

/** A pool's part of a subnet. */
export interface Area {
  readonly prefix: Prefix;
  /** The subnet's canonical text, "10.244.1.0/24". */
  readonly cidr: string;
  /** Name of the pool. */
  readonly pool: string;
  /** Nothing new is given out of the subnet. */
  readonly draining: boolean;
  readonly addresses: Pool;
}

/** An address that is given out at all, and where. */
export interface Place {
  readonly area: Area;
  readonly index: bigint;
}

/** Counts of addresses, none above 4294967295: a subnet that has more shows that. capacity = used + cooling + free. */
export interface Counts {
  /** Addresses that can be given out at all. */
  readonly capacity: number;
  readonly used: number;
  /** Released and not free yet: resting, or kept for their owner. */
  readonly cooling: number;
  readonly free: number;
  /** Those of the cooling ones that are kept for their owner. */
  readonly sticky: number;
}

/** Counts of a subnet of this node. */
export interface SubnetCounts extends Counts {
  /** Canonical text, "10.244.1.0/24". */
  readonly cidr: string;
  /** Addresses that are not given out: the subnet's own, excluded ones, and in a draining subnet all that nobody holds. */
  readonly reserved: number;
  readonly draining: boolean;
  /** The same, pool by pool, the default one first. */
  readonly pools: readonly (Counts & { readonly name: string })[];
}

/** An address of this node's subnets that nobody holds and that is not given out yet. Times are milliseconds since 1970. */
export interface RestingAddress {
  readonly address: string;
  readonly releasedAtMs: number;
  readonly restsUntilMs: number;
  /** Whom it is kept for until then, if anybody. */
  readonly owner: string | undefined;
}

/** Where the numbers of a count end: they travel as 32 bits. */
const MOST = 0xffff_ffff;

/** A subnet and its areas. */
interface Subnet {
  readonly prefix: Prefix;
  readonly cidr: string;
  readonly draining: boolean;
  readonly areas: readonly Area[];
  readonly reserved: bigint;
  /** Positions that are given to nobody. */
  readonly keptBack: readonly Span[];
}

/** Neighbouring addresses, both ends included. */
export interface Neighbours {
  readonly first: string;
  readonly last: string;
}

/** Finding an address takes time in the number of subnets and ranges that are configured, whatever their size. */
export class AddressSpace {
  readonly #subnets: readonly Subnet[];
  readonly #rules: AddressRules;

  /** @throws IpamError IPAM_INVALID, as layOut */
  constructor(subnets: readonly Prefix[], cooldownMs: number, rules: AddressRules) {
    this.#rules = rules;
    this.#subnets = layOut(subnets, rules).map(({ prefix, draining, sections, reserved, gaps }): Subnet => {
      const cidr = formatPrefix(prefix);
      const areas = sections.map(({ pool, spans }): Area => {
        return { prefix, cidr, pool, draining, addresses: new Pool(spans, cooldownMs) };
      });
      const keptBack = draining ? [{ first: 0n, end: prefixSize(prefix) }] : gaps;
      return { prefix, cidr, draining, areas, reserved, keptBack };
    });
  }

  /** Names of all pools, the default one first. */
  get poolNames(): string[] {
    return [DEFAULT_POOL, ...(this.#rules.pools ?? []).map(({ name }) => name)];
  }

  /** The pool for the pods of a namespace. */
  poolOfNamespace(namespace: string): string {
    return this.#rules.pools?.find(({ namespaces }) => namespaces.includes(namespace))?.name ?? DEFAULT_POOL;
  }

  /** The families that every attachment gets an address of. */
  get families(): Family[] {
    return ([4, 6] as const).filter((family) => this.#subnets.some(({ prefix }) => prefix.family === family));
  }

  /** The pool's areas in the family's subnets that take new attachments, in the configured order. */
  open(pool: string, family: Family): Area[] {
    return this.#subnets
      .filter(({ prefix, draining }) => prefix.family === family && !draining)
      .flatMap(({ areas }) => areas.filter((area) => area.pool === pool));
  }

  /** Texts of a family's subnets. */
  subnetsOf(family: Family): string[] {
    return this.#subnets.filter(({ prefix }) => prefix.family === family).map(({ cidr }) => cidr);
  }

  /** Text of the subnet that has the address, whether it gives it out or not. */
  subnetOf(address: string): string | undefined {
    return this.#subnetOf(parseAddress(address))?.cidr;
  }

  /** Undefined when no pool gives this address out, in whatever state. */
  place(address: string): Place | undefined {
    const bytes = parseAddress(address);
    const subnet = this.#subnetOf(bytes);
    const index = subnet === undefined ? undefined : indexOf(subnet.prefix, bytes);
    if (subnet === undefined || index === undefined) return undefined;
    const area = subnet.areas.find(({ addresses }) => addresses.contains(index));
    return area === undefined ? undefined : { area, index };
  }

  /** Text of the excluded range that has the address. */
  excludedBy(address: string): string | undefined {
    const bytes = parseAddress(address);
    const number = addressNumber(bytes);
    const range = this.#rules.excluded?.find(
      ({ family, first, last }) => family === familyOf(bytes) && number >= first && number <= last,
    );
    return range?.text;
  }

  /** Counts of every subnet, in the configured order. */
  counts(nowMs: number): SubnetCounts[] {
    return this.#subnets.map(({ cidr, draining, areas, reserved }) => {
      let kept = reserved;
      const pools = areas.map(({ pool, addresses }) => {
        const counts = addresses.counts(nowMs);
        if (draining) kept += counts.capacity - BigInt(counts.used);
        return { name: pool, ...shown(draining ? undefined : counts.free, counts) };
      });
      const sum = (key: keyof Counts) =>
        Math.min(
          MOST,
          pools.reduce((total, pool) => total + pool[key], 0),
        );
      return {
        cidr,
        capacity: sum("capacity"),
        used: sum("used"),
        cooling: sum("cooling"),
        free: sum("free"),
        sticky: sum("sticky"),
        reserved: clamped(kept),
        draining,
        pools,
      };
    });
  }

  /** What is given to nobody, subnet by subnet in the configured order; some of it may be held from before. */
  get keptBack(): Neighbours[] {
    return this.#subnets.flatMap(({ prefix, keptBack }) =>
      keptBack.map(({ first, end }) => ({
        first: formatAddress(addressAt(prefix, first)),
        last: formatAddress(addressAt(prefix, end - 1n)),
      })),
    );
  }

  /** The addresses that rest, subnet by subnet in the configured order, the longest released first. */
  resting(nowMs: number): RestingAddress[] {
    return this.#subnets.flatMap(({ areas }) =>
      areas
        .flatMap((area) => area.addresses.resting(nowMs).map((one) => ({ ...one, area })))
        .sort((a, b) => a.releasedAtMs - b.releasedAtMs)
        .map(({ area, index, releasedAtMs, readyAtMs, owner }) => {
          return { address: textAt({ area, index }), releasedAtMs, restsUntilMs: readyAtMs, owner };
        }),
    );
  }

  #subnetOf(bytes: Uint8Array): Subnet | undefined {
    return this.#subnets.find(({ prefix }) => indexOf(prefix, bytes) !== undefined);
  }
}

export function textAt({ area, index }: Place): string {
  return formatAddress(addressAt(area.prefix, index));
}

/** @param free undefined in a draining subnet, which gives nothing more */
function shown(free: bigint | undefined, counts: { used: number; cooling: number; kept: number }): Counts {
  const { used, kept } = counts;
  if (free === undefined) return { capacity: used, used, cooling: 0, free: 0, sticky: 0 };
  const cooling = counts.cooling + kept;
  return { capacity: clamped(free + BigInt(used + cooling)), used, cooling, free: clamped(free), sticky: kept };
}

function clamped(count: bigint): number {
  return count > BigInt(MOST) ? MOST : Number(count);
}
