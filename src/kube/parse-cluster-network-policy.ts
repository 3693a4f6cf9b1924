// SPDX-License-Identifier: Apache-2.0
//
// policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy. Pure; never throws. What can't be used fails closed, in the way the API says: a
// rule that accepts then accepts nothing, any other denies all. Peers by node and by domain name, which are experimental
// there, can't be used here.
import type { ClusterNetworkPolicy, ClusterPolicyRule, ClusterPolicySubject } from "./cluster-network-policy.ts";
import type { PolicyPeer, PolicyPort } from "./network-policy.ts";
import type { TransportProtocol } from "./objects.ts";
import { parseCidr } from "./parse-cidr.ts";
import { parseSelector } from "./parse-selector.ts";
import type { LabelSelector } from "./selector.ts";
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

/** The API allows 25 rules a direction with 25 peers and ports each. */
const MOST_ITEMS = 20_000;
const LAST_PRIORITY = 1000;
const PROTOCOLS: Readonly<Record<string, TransportProtocol>> = { tcp: "TCP", udp: "UDP", sctp: "SCTP" };

const DENY_ALL: ClusterPolicyRule = { action: "Deny", peers: undefined, ports: undefined };
const ACCEPT_NOTHING: ClusterPolicyRule = { action: "Accept", peers: [], ports: [] };

/** @returns undefined for what has no name and so is no policy */
export function parseClusterNetworkPolicy(raw: unknown): ClusterNetworkPolicy | undefined {
  const { metadata, spec } = loose(raw);
  const { name, uid } = loose(metadata);
  if (typeof name !== "string" || name === "") return undefined;
  const reading = new Reading(MOST_ITEMS);
  const fields = reading.try(() => strictFields(spec, "spec")) ?? {};
  const place = reading.try(() => parsePlace(fields));
  const subject = reading.try(() => parseSubject(fields["subject"], reading));
  const rules = (direction: "ingress" | "egress"): ClusterPolicyRule[] => {
    const all = parseRules(fields[direction], direction, reading);
    // Where it stands among others isn't known, so nothing may go before what others deny.
    if (place === undefined) return all.length === 0 ? [] : [DENY_ALL];
    return subject === undefined ? all.filter(({ action }) => action === "Deny") : all;
  };
  return {
    name,
    uid: typeof uid === "string" ? uid : "",
    ...(place ?? { tier: "Admin", priority: 0 }),
    subject,
    ingress: rules("ingress"),
    egress: rules("egress"),
    problems: reading.problems,
  };
}

function parsePlace(fields: Fields): Pick<ClusterNetworkPolicy, "tier" | "priority"> {
  const { tier, priority } = strictFields(fields, "spec", ["tier", "priority", "subject", "ingress", "egress"]);
  if (tier !== "Admin" && tier !== "Baseline") throw new Unusable(`spec.tier is ${show(tier)}, which isn't known`);
  if (typeof priority !== "number" || !Number.isInteger(priority) || priority < 0 || priority > LAST_PRIORITY) {
    throw new Unusable(`spec.priority is ${show(priority)}; it must be 0 to ${LAST_PRIORITY}`);
  }
  return { tier, priority };
}

function parseSubject(raw: unknown, reading: Reading): ClusterPolicySubject {
  return parsePods(raw, "spec.subject", reading, ["namespaces", "pods"]);
}

function parseRules(raw: unknown, direction: "ingress" | "egress", reading: Reading): ClusterPolicyRule[] {
  const at = `spec.${direction}`;
  const rules = reading.try(() => strictList(raw ?? [], at));
  return rules === undefined ? [DENY_ALL] : rules.map((rule, i) => parseRule(rule, direction, `${at}[${i}]`, reading));
}

function parseRule(raw: unknown, direction: "ingress" | "egress", at: string, reading: Reading): ClusterPolicyRule {
  const rule = reading.try((): ClusterPolicyRule => {
    reading.take(at);
    const peerField = direction === "ingress" ? "from" : "to";
    const fields = strictFields(raw, at, ["name", "action", peerField, "protocols"]);
    const { action, protocols } = fields;
    if (action !== "Accept" && action !== "Deny" && action !== "Pass") {
      throw new Unusable(`${at}.action is ${show(action)}, which isn't known`);
    }
    const peers = items(fields[peerField], `${at}.${peerField}`, reading, (peer, of) =>
      parsePeers(peer, direction, of, reading),
    );
    if (protocols === undefined) return { action, peers, ports: undefined };
    const ports = items(protocols, `${at}.protocols`, reading, parsePorts);
    if (
      direction === "egress" &&
      ports.some(({ kind }) => kind === "named") &&
      peers.some(({ kind }) => kind === "block")
    ) {
      throw new Unusable(`${at} has networks and destinationNamedPort; networks have no named ports`);
    }
    return { action, peers, ports };
  });
  if (rule !== undefined) return rule;
  return loose(raw)["action"] === "Accept" ? ACCEPT_NOTHING : DENY_ALL;
}

/** What is in a list that must have something; anything in it that can't be used makes all of the rule so. */
function items<T>(raw: unknown, at: string, reading: Reading, parse: (raw: unknown, at: string) => readonly T[]): T[] {
  const list = strictList(raw, at);
  if (list.length === 0) throw new Unusable(`${at} is empty`);
  return list.flatMap((item, i) => {
    reading.take(at);
    return parse(item, `${at}[${i}]`);
  });
}

function parsePeers(raw: unknown, direction: "ingress" | "egress", at: string, reading: Reading): PolicyPeer[] {
  const { networks } = loose(raw);
  if (direction === "ingress" || networks === undefined || networks === null) {
    return [{ kind: "pods", ...parsePods(raw, at, reading, ["namespaces", "pods"]) }];
  }
  const fields = strictFields(raw, at, ["networks"]);
  return items(fields["networks"], `${at}.networks`, reading, (one, of) => [
    { kind: "block", cidr: parseCidr(one, of), except: [] },
  ]);
}

/** Either all pods of namespaces, or certain ones. */
function parsePods(
  raw: unknown,
  at: string,
  reading: Reading,
  known: readonly string[],
): { namespaces: LabelSelector; pods: LabelSelector } {
  const fields = strictFields(raw, at, known);
  if (Object.keys(fields).length !== 1) throw new Unusable(`${at} must have one of ${known.join(", ")}`);
  const { namespaces, pods } = fields;
  if (namespaces !== undefined) return { namespaces: parseSelector(namespaces, `${at}.namespaces`, reading), pods: [] };
  const { namespaceSelector, podSelector } = strictFields(pods, `${at}.pods`, ["namespaceSelector", "podSelector"]);
  return {
    namespaces: parseSelector(namespaceSelector ?? {}, `${at}.pods.namespaceSelector`, reading),
    pods: parseSelector(podSelector ?? {}, `${at}.pods.podSelector`, reading),
  };
}

function parsePorts(raw: unknown, at: string): PolicyPort[] {
  const fields = strictFields(raw, at, [...Object.keys(PROTOCOLS), "destinationNamedPort"]);
  const [[name, value] = [], ...others] = Object.entries(fields);
  if (name === undefined || others.length > 0) throw new Unusable(`${at} must have one protocol`);
  if (name === "destinationNamedPort") {
    const called = strictText(value, `${at}.${name}`);
    return Object.values(PROTOCOLS).map((protocol) => ({ kind: "named", protocol, name: called }));
  }
  const of = `${at}.${name}`;
  const { destinationPort } = strictFields(value, of, ["destinationPort"]);
  const { number, range } = strictFields(destinationPort, `${of}.destinationPort`, ["number", "range"]);
  if ((number === undefined) === (range === undefined)) {
    throw new Unusable(`${of}.destinationPort must have either number or range`);
  }
  const protocol = PROTOCOLS[name] as TransportProtocol;
  if (number !== undefined) {
    const port = strictPort(number, `${of}.destinationPort.number`);
    return [{ kind: "range", protocol, first: port, last: port }];
  }
  const { start, end } = strictFields(range, `${of}.destinationPort.range`, ["start", "end"]);
  const first = strictPort(start, `${of}.destinationPort.range.start`);
  const last = strictPort(end, `${of}.destinationPort.range.end`);
  if (last < first) throw new Unusable(`${of}.destinationPort.range ends at ${last}, before its start ${first}`);
  return [{ kind: "range", protocol, first, last }];
}

/** What the API server itself writes: without it there is no object. */
function loose(raw: unknown): Fields {
  return typeof raw === "object" && raw !== null ? (raw as Fields) : {};
}
