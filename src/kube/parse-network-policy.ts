// SPDX-License-Identifier: Apache-2.0
//
// networking.k8s.io/v1 NetworkPolicy. Pure; never throws. What can't be used allows nothing, and is said in `problems`: an API server
// that is newer than this, or older and less strict, may hand on what its own validation wouldn't.
import { isWithin } from "../net/prefix.ts";
import type { NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule } from "./network-policy.ts";
import type { TransportProtocol } from "./objects.ts";
import { parseCidr } from "./parse-cidr.ts";
import { parseSelector } from "./parse-selector.ts";
import {
  type Fields,
  Reading,
  show,
  strictFields,
  strictList,
  strictPort,
  strictText,
  Unusable,
} from "./strict-fields.ts";

/** Rules, peers, ports, exceptions and requirements of one policy together. More than fit etcd's 1.5 MiB in any sensible way. */
const MOST_ITEMS = 100_000;
const PROTOCOLS: readonly string[] = ["TCP", "UDP", "SCTP"] satisfies TransportProtocol[];
/** IANA_SVC_NAME: letters, digits and single hyphens within, at least one letter (RFC 6335, section 5.1). */
const PORT_NAME = /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/;

/** @returns undefined for what has no name or no namespace and so is no policy */
export function parseNetworkPolicy(raw: unknown): NetworkPolicy | undefined {
  const { metadata, spec } = loose(raw);
  const { namespace, name, uid } = loose(metadata);
  if (typeof name !== "string" || name === "" || typeof namespace !== "string" || namespace === "") return undefined;
  const reading = new Reading(MOST_ITEMS);
  const parsed = parseSpec(spec ?? {}, reading);
  return { namespace, name, uid: typeof uid === "string" ? uid : "", ...parsed, problems: reading.problems };
}

type Spec = Pick<NetworkPolicy, "podSelector" | "ingress" | "egress">;

function parseSpec(raw: unknown, reading: Reading): Spec {
  const fields = reading.try(() => strictFields(raw, "spec"));
  if (fields === undefined) return { podSelector: undefined, ingress: [], egress: [] };
  const types = parseTypes(fields, reading);
  const podSelector = reading.try(() => parseSelector(fields["podSelector"] ?? {}, "spec.podSelector", reading));
  const known = reading.try(() => strictFields(fields, "spec", ["podSelector", "policyTypes", "ingress", "egress"]));
  // Of a policy that isn't understood no rule may open anything: it may have been meant for other pods, or under conditions.
  const isUnderstood = podSelector !== undefined && known !== undefined;
  const rulesOf = (direction: "ingress" | "egress"): PolicyRule[] =>
    isUnderstood ? parseRules(fields[direction], direction, reading) : [];
  return {
    podSelector,
    ingress: types.ingress ? rulesOf("ingress") : undefined,
    egress: types.egress ? rulesOf("egress") : undefined,
  };
}

/** Which directions the policy is about. One that can't be read is about both. */
function parseTypes({ policyTypes, egress }: Fields, reading: Reading): { ingress: boolean; egress: boolean } {
  const types = reading.try(() => strictList(policyTypes ?? [], "spec.policyTypes"));
  if (types === undefined) return { ingress: true, egress: true };
  const unknown = types.filter((type) => type !== "Ingress" && type !== "Egress");
  for (const type of unknown) reading.note(`spec.policyTypes has ${show(type)}, which isn't known`);
  if (unknown.length > 0) return { ingress: true, egress: true };
  // "Policies that contain an egress section are assumed to affect egress, and all policies … to affect ingress."
  if (types.length === 0) return { ingress: true, egress: egress !== undefined };
  return { ingress: types.includes("Ingress"), egress: types.includes("Egress") };
}

function parseRules(raw: unknown, direction: "ingress" | "egress", reading: Reading): PolicyRule[] {
  const at = `spec.${direction}`;
  const rules = reading.try(() => strictList(raw ?? [], at)) ?? [];
  const peerField = direction === "ingress" ? "from" : "to";
  // A rule that can't be used keeps its place, so that the others are still counted from the same first one.
  return rules.map((rule, i): PolicyRule => {
    const of = `${at}[${i}]`;
    return (
      reading.try(() => {
        reading.take(of);
        const { [peerField]: peers, ports } = strictFields(rule, of, [peerField, "ports"]);
        return {
          peers: parseAll(peers, `${of}.${peerField}`, reading, parsePeer),
          ports: parseAll(ports, `${of}.ports`, reading, parsePort),
        };
      }) ?? { peers: [], ports: [] }
    );
  });
}

/** undefined where there is no list or an empty one, which is everything; empty where nothing in it can be used. */
function parseAll<T>(
  raw: unknown,
  at: string,
  reading: Reading,
  parse: (raw: unknown, at: string, reading: Reading) => T,
): readonly T[] | undefined {
  const list = strictList(raw ?? [], at);
  if (list.length === 0) return undefined;
  return list.flatMap((item, i) => {
    const of = `${at}[${i}]`;
    const parsed = reading.try(() => {
      reading.take(of);
      return parse(item, of, reading);
    });
    return parsed === undefined ? [] : [parsed];
  });
}

function parsePeer(raw: unknown, at: string, reading: Reading): PolicyPeer {
  const { podSelector, namespaceSelector, ipBlock } = strictFields(raw, at, [
    "podSelector",
    "namespaceSelector",
    "ipBlock",
  ]);
  if (ipBlock !== undefined) {
    if (podSelector !== undefined || namespaceSelector !== undefined) {
      throw new Unusable(`${at} has an ipBlock and a selector; it may have only one of them`);
    }
    return parseBlock(ipBlock, `${at}.ipBlock`, reading);
  }
  if (podSelector === undefined && namespaceSelector === undefined) throw new Unusable(`${at} names no peer`);
  return {
    kind: "pods",
    namespaces:
      namespaceSelector === undefined
        ? undefined
        : parseSelector(namespaceSelector, `${at}.namespaceSelector`, reading),
    pods: parseSelector(podSelector ?? {}, `${at}.podSelector`, reading),
  };
}

function parseBlock(raw: unknown, at: string, reading: Reading): PolicyPeer {
  const fields = strictFields(raw, at, ["cidr", "except"]);
  const cidr = parseCidr(fields["cidr"], `${at}.cidr`);
  const except = strictList(fields["except"] ?? [], `${at}.except`).map((one, i) => {
    const of = `${at}.except[${i}]`;
    reading.take(of);
    const prefix = parseCidr(one, of);
    if (prefix.length <= cidr.length || !isWithin(cidr, prefix)) {
      throw new Unusable(`${of} is ${show(one)}, which is not within ${show(fields["cidr"])}`);
    }
    return prefix;
  });
  return { kind: "block", cidr, except };
}

function parsePort(raw: unknown, at: string): PolicyPort {
  const { protocol: of = "TCP", port, endPort } = strictFields(raw, at, ["protocol", "port", "endPort"]);
  const protocol = strictText(of, `${at}.protocol`) as TransportProtocol;
  if (!PROTOCOLS.includes(protocol)) throw new Unusable(`${at}.protocol is ${show(of)}, which isn't known`);
  if (typeof port === "string") {
    if (endPort !== undefined) throw new Unusable(`${at} has an endPort beside the name ${show(port)}`);
    if (!PORT_NAME.test(port)) throw new Unusable(`${at}.port is ${show(port)}, which no port can be called`);
    return { kind: "named", protocol, name: port };
  }
  if (port === undefined) {
    if (endPort !== undefined) throw new Unusable(`${at} has an endPort without a port`);
    return { kind: "all", protocol };
  }
  const first = strictPort(port, `${at}.port`);
  const last = endPort === undefined ? first : strictPort(endPort, `${at}.endPort`);
  if (last < first) throw new Unusable(`${at}.endPort is ${last}, less than the port ${first}`);
  return { kind: "range", protocol, first, last };
}

/** What the API server itself writes: without it there is no object. */
function loose(raw: unknown): Fields {
  return typeof raw === "object" && raw !== null ? (raw as Fields) : {};
}
