// SPDX-License-Identifier: Apache-2.0
//
// What a pod asks its network for by annotations: untrusted text of whoever may make pods. Pure.
import { familyOf, formatAddress, parseAddress } from "../net/address.ts";
import { ANNOTATION_PREFIX, type Words } from "./objects.ts";

/** The annotations of a pod that say something about its network. */
export const POD_ANNOTATIONS = {
  addresses: `${ANNOTATION_PREFIX}addresses`,
  pool: `${ANNOTATION_PREFIX}pool`,
  mtu: `${ANNOTATION_PREFIX}mtu`,
  ingressBandwidth: "kubernetes.io/ingress-bandwidth",
  egressBandwidth: "kubernetes.io/egress-bandwidth",
} as const;

/** What is not asked for is undefined. */
export interface PodAnnotations {
  /** Canonical text, at most one a family, IPv4 first. */
  readonly addresses: readonly string[];
  readonly pool: string | undefined;
  /** In bytes; whether this node can give it is not looked at here. */
  readonly mtu: number | undefined;
  /** What the pod may receive, and send, in bits a second. */
  readonly ingressRate: number | undefined;
  readonly egressRate: number | undefined;
}

export interface ReadAnnotations {
  readonly annotations: PodAnnotations;
  /** A sentence each, with the annotation and its value. A pod with any can't have what it asks for. */
  readonly problems: readonly string[];
}

/** As the configuration has pools' names. */
const POOL_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const LEAST_MTU = 68;
const MOST_MTU = 65_535;
/** kubelet's own bounds of both, in bits a second (pkg/util/bandwidth/utils.go: minRsrc, maxRsrc). */
const LEAST_RATE = 1_000n;
const MOST_RATE = 1_000_000_000_000_000n;

export function readPodAnnotations(words: Words): ReadAnnotations {
  const problems: string[] = [];
  const read = <T>(name: string, parse: (text: string) => T | Wrong): T | undefined => {
    if (!Object.hasOwn(words, name)) return undefined;
    const text = words[name] as string;
    const value = parse(text.trim());
    if (!(value instanceof Wrong)) return value;
    problems.push(annotationProblem(name, text, value.rule));
    return undefined;
  };
  const annotations = {
    addresses: read(POD_ANNOTATIONS.addresses, parseAddresses) ?? [],
    pool: read(POD_ANNOTATIONS.pool, parsePool),
    mtu: read(POD_ANNOTATIONS.mtu, parseMtu),
    ingressRate: read(POD_ANNOTATIONS.ingressBandwidth, parseRate),
    egressRate: read(POD_ANNOTATIONS.egressBandwidth, parseRate),
  };
  return { annotations, problems };
}

/** "annotation flatnet.dev/mtu is "9000"; it must be at most 1500". */
export function annotationProblem(name: string, value: string, rule: string): string {
  return `annotation ${name} is ${quote(value)}; it must be ${rule}`;
}

/** What a value should have been. */
class Wrong {
  readonly rule: string;
  constructor(rule: string) {
    this.rule = rule;
  }
}

function parseAddresses(text: string): string[] | Wrong {
  const rule = new Wrong('an address, or one of each family: "10.244.1.9,fd00:10:244:1::9"');
  const addresses: Uint8Array[] = [];
  for (const part of text.split(",")) {
    try {
      const address = parseAddress(part.trim());
      if (addresses.some((other) => familyOf(other) === familyOf(address))) return rule;
      addresses.push(address);
    } catch {
      // The rule says more than what was wrong with a part.
      return rule;
    }
  }
  return addresses.sort((a, b) => familyOf(a) - familyOf(b)).map(formatAddress);
}

function parsePool(text: string): string | Wrong {
  return POOL_NAME.test(text) ? text : new Wrong('the name of a pool, or "default"');
}

function parseMtu(text: string): number | Wrong {
  const mtu = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  return mtu >= LEAST_MTU && mtu <= MOST_MTU ? mtu : new Wrong(`a number of bytes, ${LEAST_MTU} to ${MOST_MTU}`);
}

function parseRate(text: string): number | Wrong {
  const rate = parseQuantity(text);
  if (rate === undefined || rate < LEAST_RATE || rate > MOST_RATE) return new Wrong('bits a second, 1k to 1P: "10M"');
  return Number(rate);
}

const SUFFIXES: Readonly<Record<string, readonly [times: bigint, by: bigint]>> = {
  n: [1n, 10n ** 9n],
  u: [1n, 10n ** 6n],
  m: [1n, 1000n],
  "": [1n, 1n],
  k: [10n ** 3n, 1n],
  M: [10n ** 6n, 1n],
  G: [10n ** 9n, 1n],
  T: [10n ** 12n, 1n],
  P: [10n ** 15n, 1n],
  E: [10n ** 18n, 1n],
  Ki: [2n ** 10n, 1n],
  Mi: [2n ** 20n, 1n],
  Gi: [2n ** 30n, 1n],
  Ti: [2n ** 40n, 1n],
  Pi: [2n ** 50n, 1n],
  Ei: [2n ** 60n, 1n],
};

/**
 * A Quantity of Kubernetes' API (k8s.io/apimachinery, pkg/api/resource/quantity.go), rounded up to a whole number as its
 * Value() is. @returns undefined for what is none, and for anything below zero
 */
function parseQuantity(text: string): bigint | undefined {
  const match = /^\+?(\d{0,18})(?:\.(\d{0,18}))?(?:([numkMGTPE]|[KMGTPE]i)?|[eE]([+-]?\d{1,2}))$/.exec(text);
  if (match === null) return undefined;
  const [, whole = "", fraction = "", suffix = "", exponent = "0"] = match;
  if (whole === "" && fraction === "") return undefined;
  const [times, by] = SUFFIXES[suffix] as readonly [bigint, bigint];
  const power = Number(exponent);
  const above = BigInt(whole + fraction) * times * (power > 0 ? 10n ** BigInt(power) : 1n);
  const below = 10n ** BigInt(fraction.length) * by * (power < 0 ? 10n ** BigInt(-power) : 1n);
  return (above + below - 1n) / below;
}

/** Untrusted text in a message, short enough for an Event. */
function quote(value: string): string {
  return JSON.stringify(value.length > 80 ? `${value.slice(0, 80)}…` : value);
}
