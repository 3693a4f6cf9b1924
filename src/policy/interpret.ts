// SPDX-License-Identifier: Apache-2.0
//
// What a ruleset does with the first packet of a connection, as the kernel would: for people who ask, for connections that are judged
// again, and for tests. Made for one ruleset at one moment; what it has looked into it keeps.

import { type Family, familyOf, formatAddress, parseAddress } from "../net/address.ts";
import { addressNumber } from "../net/prefix.ts";
import type { ChainName, L4, Match, PacketField, PolicyRule, PolicySet, Ruleset, Verdict } from "./ruleset.ts";

export interface Packet {
  /** 4 or 16 bytes, both of one family. */
  readonly saddr: Uint8Array;
  readonly daddr: Uint8Array;
  /** Any other has no ports. */
  readonly protocol: L4 | "icmp";
  /** undefined for ICMP. */
  readonly dport: number | undefined;
  /** Not the first of a TCP connection. */
  readonly midstream?: boolean;
}

/** A rule that decided something, or led elsewhere. */
export interface Step {
  readonly chain: ChainName;
  readonly rule: PolicyRule;
}

export interface Judgement {
  readonly allowed: boolean;
  /** Rules that matched, in order. */
  readonly steps: readonly Step[];
}

type Outcome = "accept" | "drop" | "return";

interface Prepared extends Packet {
  readonly family: Family;
  readonly texts: Readonly<Record<PacketField, string | undefined>>;
}

export class Interpreter {
  readonly #ruleset: Ruleset;
  readonly #ranges = new Map<PolicySet, RangeIndex>();

  constructor(ruleset: Ruleset) {
    this.#ruleset = ruleset;
  }

  /** @param hook where the packet is: "output" is what the node itself sends; a chain that isn't there accepts */
  judge(packet: Packet, hook: "forward" | "output" = "forward"): Judgement {
    const steps: Step[] = [];
    const prepared: Prepared = {
      ...packet,
      family: familyOf(packet.saddr),
      texts: {
        saddr: formatAddress(packet.saddr),
        daddr: formatAddress(packet.daddr),
        l4proto: packet.protocol === "icmp" ? undefined : packet.protocol,
        dport: packet.dport === undefined ? undefined : String(packet.dport),
      },
    };
    const outcome = this.#ruleset.chains.has(hook) ? this.#run(hook, prepared, steps) : "accept";
    return { allowed: outcome !== "drop", steps };
  }

  #run(name: ChainName, packet: Prepared, steps: Step[]): Outcome {
    const chain = this.#ruleset.chains.get(name);
    if (chain === undefined) throw new Error(`no chain ${name}`);
    for (const rule of chain.rules) {
      if (!rule.matches.every((match) => this.#matches(match, packet))) continue;
      const outcome = this.#verdict(rule.verdict, packet, () => steps.push({ chain: name, rule }), steps);
      if (outcome !== "next") return outcome;
    }
    return "return";
  }

  #verdict(verdict: Verdict, packet: Prepared, note: () => void, steps: Step[]): Outcome | "next" {
    if (verdict.kind === "vmap") {
      const map = this.#ruleset.sets.get(verdict.map);
      if (map?.kind !== "map") throw new Error(`no map ${verdict.map}`);
      const chain = map.elements.get(packet.texts[verdict.field] as string);
      if (chain === undefined) return "next";
      note();
      const outcome = this.#run(chain, packet, steps);
      return outcome === "return" ? "next" : outcome;
    }
    note();
    return verdict.kind === "goto" ? this.#run(verdict.chain, packet, steps) : verdict.kind;
  }

  #matches(match: Match, packet: Prepared): boolean {
    switch (match.kind) {
      case "family":
        return match.family === packet.family;
      case "l4proto":
        return match.protocol === packet.protocol;
      case "dport":
        return packet.dport !== undefined && packet.dport >= match.first && packet.dport <= match.last;
      case "ctState":
        return match.states.includes("new");
      case "midstream":
        return packet.protocol === "tcp" && packet.midstream === true;
      case "neighbourDiscovery":
        return false;
      case "lookup":
        return this.#isIn(match.set, match.fields, packet);
    }
  }

  #isIn(name: string, fields: readonly PacketField[], packet: Prepared): boolean {
    const set = this.#ruleset.sets.get(name);
    if (set?.kind !== "set") throw new Error(`no set ${name}`);
    const texts = fields.map((field) => packet.texts[field]);
    if (texts.some((text) => text === undefined)) return false;
    if (!set.interval) return set.elements.has(texts.join(" . "));
    const index = this.#ranges.get(set) ?? new RangeIndex(set);
    this.#ranges.set(set, index);
    return index.has(texts as string[]);
  }
}

interface Range {
  readonly first: bigint;
  readonly last: bigint;
}

/** Elements of one protocol: stretches of addresses, which are apart, with the ports of each. */
class Stretches {
  readonly #byText = new Map<string, { readonly range: Range; readonly ports: Range[] }>();
  #ordered: { readonly range: Range; readonly ports: readonly Range[] }[] | undefined;

  add(addresses: string, ports: string | undefined): void {
    const stretch = this.#byText.get(addresses) ?? { range: rangeOf(addresses), ports: [] };
    this.#byText.set(addresses, stretch);
    if (ports !== undefined) stretch.ports.push(rangeOf(ports));
  }

  has(address: bigint, port: bigint | undefined): boolean {
    this.#ordered ??= [...this.#byText.values()].sort((a, b) => (a.range.first < b.range.first ? -1 : 1));
    const found = find(this.#ordered, address);
    if (found === undefined) return false;
    return port === undefined || found.ports.some(({ first, last }) => port >= first && port <= last);
  }
}

/** A set with ranges. */
class RangeIndex {
  readonly #byProtocol = new Map<string, Stretches>();
  readonly #hasAddress: boolean;

  constructor({ elements, key }: PolicySet) {
    this.#hasAddress = key.length !== 2;
    for (const element of elements) {
      const { address, protocol, port } = this.#parts(element.split(" . "));
      const stretches = this.#byProtocol.get(protocol) ?? new Stretches();
      this.#byProtocol.set(protocol, stretches);
      stretches.add(address, port);
    }
  }

  has(texts: readonly string[]): boolean {
    const { address, protocol, port } = this.#parts(texts);
    const stretches = this.#byProtocol.get(protocol);
    return stretches?.has(numberOf(address), port === undefined ? undefined : BigInt(port)) ?? false;
  }

  /** In a set without addresses all have the same. */
  #parts(fields: readonly string[]): { address: string; protocol: string; port: string | undefined } {
    const [address = "0", protocol = "", port] = this.#hasAddress ? fields : ["0", ...fields];
    return { address, protocol, port };
  }
}

function find<T extends { readonly range: Range }>(ordered: readonly T[], number: bigint): T | undefined {
  let low = 0;
  let high = ordered.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const one = ordered[middle] as T;
    if (number < one.range.first) high = middle - 1;
    else if (number > one.range.last) low = middle + 1;
    else return one;
  }
  return undefined;
}

/** No address has a "-" in it. */
function rangeOf(text: string): Range {
  const [first = "", last = first] = text.split("-");
  return { first: numberOf(first), last: numberOf(last) };
}

function numberOf(text: string): bigint {
  return /^\d+$/.test(text) ? BigInt(text) : addressNumber(parseAddress(text));
}
