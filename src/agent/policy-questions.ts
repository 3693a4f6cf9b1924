// SPDX-License-Identifier: Apache-2.0
//
// What people ask about network policies (flatnet.policy.v1), answered from what is known and enforced at this moment.
import type * as wire from "../gen/flatnet/policy/v1/policy.ts";
import { IpamError, quote } from "../ipam/errors.ts";
import type { ClusterNetworkPolicy } from "../kube/cluster-network-policy.ts";
import type { NetworkPolicy } from "../kube/network-policy.ts";
import { type KubePod, keyOf, type ObjectKey } from "../kube/objects.ts";
import { familyOf, formatAddress, parseAddress } from "../net/address.ts";
import { type DirectionExplanation, type Explanation, explain, type Question } from "../policy/explain.ts";
import type { LocalPod } from "../policy/model.ts";
import { type Counted, type RuleCount, ruleCounts } from "../policy/rule-counts.ts";
import type { Origin, PolicyRef } from "../policy/ruleset.ts";
import { selectedBy } from "../policy/selected-by.ts";
import type { Node } from "../routes/source.ts";
import type { PolicyKnowledge, PolicyObjects } from "./policy-knowledge.ts";

const PROTOCOLS: ReadonlyMap<string, Question["protocol"]> = new Map([
  ["", "tcp"],
  ["tcp", "tcp"],
  ["udp", "udp"],
  ["sctp", "sctp"],
  ["icmp", "icmp"],
]);

/**
 * Whether connections may begin, by the rules of both ends.
 * @throws IpamError IPAM_INVALID, IPAM_UNKNOWN
 */
export function explainAll(
  known: PolicyKnowledge,
  { source, destination, protocol: asked, port }: wire.ExplainRequest,
  { nodeName, nodes }: { readonly nodeName: string; readonly nodes: readonly Node[] },
): wire.ExplainResponse {
  const protocol = PROTOCOLS.get(asked);
  if (protocol === undefined) throw invalid("protocol", quote(asked), "tcp, udp, sctp or icmp");
  const isPort = protocol === "icmp" ? port === 0 : port >= 1 && port <= 65_535;
  if (!isPort) throw invalid("port", `${port}`, protocol === "icmp" ? "0 with icmp" : "1 to 65535");
  const pods = known.found.size === 0 ? known.objects.pods.objects : podsWith(known);
  const from = addressesOf("source", source, known, pods);
  const to = addressesOf("destination", destination, known, pods);
  const questions = [...from]
    .sort((a, b) => a.length - b.length)
    .flatMap((saddr): Question[] => {
      const daddr = to.find((address) => familyOf(address) === familyOf(saddr));
      return daddr === undefined ? [] : [{ saddr, daddr, protocol, dport: protocol === "icmp" ? undefined : port }];
    });
  if (questions.length === 0) {
    const texts = [from, to].map((all) => all.map(formatAddress).join(", "));
    throw new IpamError("IPAM_INVALID", `source and destination have no family in common: ${texts.join(" and ")}`);
  }
  const { namespaces, policies, clusterPolicies } = known.objects;
  const state = {
    pods,
    namespaces: [...namespaces.objects.values()],
    policies: [...policies.objects.values()],
    clusterPolicies: [...(clusterPolicies?.objects.values() ?? [])],
    policiesKnown: known.policiesKnown,
    nodes,
    locals: known.locals,
  };
  const explanations = questions.map((question) =>
    toExplanation(explain(state, question, known.settings), known, pods, nodeName),
  );
  return { explanations };
}

function podsWith({ objects, found }: PolicyKnowledge): ReadonlyMap<ObjectKey, KubePod> {
  return new Map([...objects.pods.objects, ...found]);
}

/** Of an end as it was asked for: at most one a family. */
function addressesOf(
  field: string,
  text: string,
  { locals }: PolicyKnowledge,
  pods: ReadonlyMap<ObjectKey, KubePod>,
): Uint8Array[] {
  const [namespace = "", name = "", ...more] = text.split("/");
  if (namespace === "" || (text.includes("/") && (name === "" || more.length > 0))) {
    throw invalid(field, quote(text), "a pod as namespace/name, or an address");
  }
  if (!text.includes("/")) {
    try {
      return [parseAddress(text)];
    } catch {
      throw invalid(field, quote(text), "a pod as namespace/name, or an address");
    }
  }
  const pod = pods.get(text);
  // The attachment's are known before kubelet has told them to anybody.
  const local = locals.find((one) => keyOf(one) === text && (pod === undefined || isSame(one, pod)));
  const addresses = local?.addresses ?? pod?.addresses ?? [];
  if (pod === undefined && local === undefined) throw new IpamError("IPAM_UNKNOWN", `there is no pod ${quote(text)}`);
  if (pod?.ended === true) throw new IpamError("IPAM_UNKNOWN", `the pod ${quote(text)} has ended`);
  if (addresses.length === 0) throw new IpamError("IPAM_UNKNOWN", `the pod ${quote(text)} has no address yet`);
  return addresses.filter((one, i) => addresses.findIndex((other) => familyOf(other) === familyOf(one)) === i);
}

function isSame(local: LocalPod, pod: KubePod): boolean {
  return local.uid === undefined || local.uid === pod.uid;
}

function toExplanation(
  { allowed, source, destination, directions }: Explanation,
  { locals }: PolicyKnowledge,
  pods: ReadonlyMap<ObjectKey, KubePod>,
  nodeName: string,
): wire.Explanation {
  const judgedOn = ({ pod }: DirectionExplanation) => {
    if (locals.some((local) => keyOf(local) === keyOf(pod))) return "";
    const node = pods.get(keyOf(pod))?.nodeName ?? "";
    return node === nodeName ? "" : node;
  };
  return {
    allowed,
    source: { ...source, node: source.node ?? "" },
    destination: { ...destination, node: destination.node ?? "" },
    directions: directions.map((one) => ({
      ...one,
      rules: one.rules.map(toRule),
      policies: one.policies.map(toPolicy),
      judgedOn: judgedOn(one),
    })),
  };
}

/** What is enforced on this node. @param counted what its rules have counted */
export function listPolicies(known: PolicyKnowledge, counted: readonly Counted[]): wire.ListPoliciesResponse {
  const { objects, ruleset, problem = "" } = known;
  const pods = selectedPods(known);
  const selecting = new Map<string, number>();
  for (const { ingress, egress } of pods) {
    for (const text of new Set([...ingress, ...egress].map(refText))) {
      selecting.set(text, (selecting.get(text) ?? 0) + 1);
    }
  }
  const policies = allPolicies(objects)
    .map(({ ref, policy: { problems } }) => ({
      policy: toPolicy(ref),
      pods: selecting.get(refText(ref)) ?? 0,
      problems: [...problems],
    }))
    .filter(({ pods: count, problems }) => count > 0 || problems.length > 0);
  return {
    policies: sortedBy(policies, ({ policy }) => refText(policy)),
    known: objects.policies.objects.size + (objects.clusterPolicies?.objects.size ?? 0),
    rules: ruleCounts(counted, ruleset.chains).map(toCount),
    pods: sortedBy(
      pods.map(({ pod, addresses, ingress, egress, unknown }) => ({
        pod: { namespace: pod.namespace, name: pod.name },
        addresses: [...addresses],
        ingress: ingress.map(toPolicy),
        egress: egress.map(toPolicy),
        unknown,
      })),
      ({ pod }) => keyOf(pod),
    ),
    problem,
  };
}

interface FoundPolicy {
  readonly ref: PolicyRef;
  readonly policy: NetworkPolicy | ClusterNetworkPolicy;
}

function allPolicies({ policies, clusterPolicies }: PolicyObjects): FoundPolicy[] {
  const found: FoundPolicy[] = [];
  for (const policy of policies.objects.values()) {
    const { namespace, name } = policy;
    found.push({ ref: { kind: "NetworkPolicy", namespace, name }, policy });
  }
  for (const policy of clusterPolicies?.objects.values() ?? []) {
    found.push({ ref: { kind: "ClusterNetworkPolicy", namespace: undefined, name: policy.name }, policy });
  }
  return found;
}

interface SelectedPod {
  readonly pod: LocalPod;
  readonly addresses: readonly string[];
  readonly ingress: readonly PolicyRef[];
  readonly egress: readonly PolicyRef[];
  readonly unknown: boolean;
}

function selectedPods({ locals, ruleset }: PolicyKnowledge): SelectedPod[] {
  return locals.flatMap((pod) => {
    const addresses = pod.addresses.map(formatAddress);
    // The families don't differ in it.
    const [address = ""] = addresses;
    const ingress = selectedBy(ruleset, address, "ingress");
    const egress = selectedBy(ruleset, address, "egress");
    if (ingress === undefined && egress === undefined) return [];
    const refs = (by: typeof ingress) => (by === undefined || by === "unknown" ? [] : by);
    return [{ pod, addresses, ingress: refs(ingress), egress: refs(egress), unknown: ingress === "unknown" }];
  });
}

function toCount({ direction, verdict, rules, policies, packets, bytes }: RuleCount): wire.RuleCount {
  return {
    ...{ direction: direction ?? "", verdict, packets, bytes },
    rules: rules.map(toRule),
    policies: policies.map(toPolicy),
  };
}

function toRule({ policy, direction, rule }: Origin): wire.RuleRef {
  return { policy: toPolicy(policy), direction, rule };
}

function toPolicy({ kind, namespace = "", name }: PolicyRef): wire.PolicyRef {
  return { kind, namespace, name };
}

/** Those of the whole cluster have no namespace, here nor on the wire. */
function refText({ kind, namespace = "", name }: { kind: string; namespace?: string | undefined; name: string }) {
  return `${kind} ${namespace}/${name}`;
}

function sortedBy<T>(items: readonly T[], keyOfItem: (item: T) => string): T[] {
  return items
    .map((item) => ({ item, key: keyOfItem(item) }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map(({ item }) => item);
}

function invalid(field: string, value: string, rule: string): IpamError {
  return new IpamError("IPAM_INVALID", `${field} is ${value}; it must be ${rule}`);
}
