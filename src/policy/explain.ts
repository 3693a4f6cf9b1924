// SPDX-License-Identifier: Apache-2.0
//
// Why a connection is allowed or denied, for people. It is compiled and judged as the kernel's rules are, for both ends wherever they run:
// only what the two ends and their namespaces have is looked at. Pure.
import type { ClusterNetworkPolicy } from "../kube/cluster-network-policy.ts";
import type { NetworkPolicy } from "../kube/network-policy.ts";
import { type KubeNamespace, type KubeNode, type KubePod, keyOf, type ObjectKey } from "../kube/objects.ts";
import { formatAddress } from "../net/address.ts";
import { compile } from "./compile.ts";
import { Interpreter, type Packet } from "./interpret.ts";
import type { LocalPod, PolicySettings } from "./model.ts";
import { UNKNOWN_CHAIN } from "./profile.ts";
import type { Direction, Origin, PolicyRef } from "./ruleset.ts";

/** What is known of the cluster. */
export interface ExplainState {
  readonly pods: ReadonlyMap<ObjectKey, KubePod>;
  readonly namespaces: Iterable<KubeNamespace>;
  readonly policies: Iterable<NetworkPolicy>;
  /** None where the API isn't served. */
  readonly clusterPolicies?: Iterable<ClusterNetworkPolicy>;
  readonly policiesKnown: boolean;
  readonly nodes: Iterable<Pick<KubeNode, "name" | "addresses">>;
  /** This node's attachments, which may be more than Kubernetes knows. */
  readonly locals: Iterable<LocalPod>;
}

/** The first packet of a connection, as it is behind the translation of a service's address. */
export type Question = Packet;

export interface Explanation {
  readonly allowed: boolean;
  readonly source: End;
  readonly destination: End;
  /** What each end's own policies say: egress of the source, ingress of the destination. An end that is no pod has none. */
  readonly directions: readonly DirectionExplanation[];
}

export interface End {
  /** Canonical text. */
  readonly address: string;
  /** The pod that has it as its own. */
  readonly pod: { readonly namespace: string; readonly name: string } | undefined;
  /** The node that has it as its own. */
  readonly node: string | undefined;
}

export interface DirectionExplanation {
  readonly direction: Direction;
  readonly pod: { readonly namespace: string; readonly name: string };
  readonly allowed: boolean;
  /**
   * "self", "node": between the pod and itself or its node all is allowed. "unselected": no policy is about the pod. "rule":
   * `rules` allowed or denied it. "isolated": `policies` select the pod, and none allows it. "unmatched": only policies of the whole
   * cluster select it, and none decides. "unknown": the pod's labels or the policies aren't known yet.
   */
  readonly because: "self" | "node" | "unselected" | "rule" | "isolated" | "unmatched" | "unknown";
  /** Every rule that by itself would have decided so. */
  readonly rules: readonly Origin[];
  /** Those that select the pod and are about the direction. */
  readonly policies: readonly PolicyRef[];
}

export function explain(state: ExplainState, question: Question, settings: PolicySettings): Explanation {
  return new Explainer(state, question, settings).explain();
}

/** An end with what is needed to judge it. */
interface FoundEnd extends End {
  readonly local: LocalPod | undefined;
  readonly object: KubePod | undefined;
}

class Explainer {
  readonly #question: Question;
  readonly #settings: PolicySettings;
  readonly #ends: readonly [source: FoundEnd, destination: FoundEnd];
  readonly #policies: readonly NetworkPolicy[];
  readonly #clusterPolicies: readonly ClusterNetworkPolicy[];
  readonly #state: ExplainState;

  constructor(state: ExplainState, question: Question, settings: PolicySettings) {
    this.#state = state;
    this.#question = question;
    this.#settings = settings;
    this.#ends = [findEnd(state, question.saddr), findEnd(state, question.daddr)];
    const namespaces = this.#ends.map(({ pod }) => pod?.namespace);
    this.#clusterPolicies = [...(state.clusterPolicies ?? [])];
    this.#policies = [...state.policies].filter(({ namespace }) => namespaces.includes(namespace));
  }

  explain(): Explanation {
    const [source, destination] = this.#ends;
    const directions = [
      ...(source.local === undefined ? [] : [this.#oneWay("egress", source, source.local, destination)]),
      ...(destination.local === undefined ? [] : [this.#oneWay("ingress", destination, destination.local, source)]),
    ];
    return {
      allowed: directions.every(({ allowed }) => allowed),
      source: endOf(source),
      destination: endOf(destination),
      directions,
    };
  }

  #oneWay(direction: Direction, end: FoundEnd, local: LocalPod, other: FoundEnd): DirectionExplanation {
    const of = { direction, pod: { namespace: local.namespace, name: local.name } };
    const free = { ...of, allowed: true, rules: [], policies: [] };
    if (other.local !== undefined && keyOf(local) === keyOf(other.local)) return { ...free, because: "self" };
    const isOwnNode = other.node !== undefined && other.node === end.object?.nodeName;
    if (isOwnNode && (direction === "egress" || this.#settings.allowFromNode)) return { ...free, because: "node" };
    const { allowed, decisive, isLed, policies } = this.#judge(local, this.#policies, this.#clusterPolicies);
    if (decisive === undefined) return { ...free, because: isLed ? "unmatched" : "unselected" };
    if (decisive.chain === UNKNOWN_CHAIN.name) return { ...of, allowed, because: "unknown", rules: [], policies: [] };
    const rules = decisive.rule.origins.filter((origin) => {
      const alone = this.#judge(local, ...this.#alone(origin));
      return alone.allowed === allowed && alone.decisive !== undefined && alone.decisive.rule.origins.length > 0;
    });
    return { ...of, allowed, because: rules.length > 0 ? "rule" : "isolated", rules, policies };
  }

  /** What the rules of one end, with these policies, do with the packet. */
  #judge(local: LocalPod, policies: readonly NetworkPolicy[], clusterPolicies: readonly ClusterNetworkPolicy[]) {
    const ruleset = compile(
      {
        pods: this.#ends.flatMap(({ object }) => object ?? []),
        namespaces: this.#state.namespaces,
        policies,
        clusterPolicies,
        policiesKnown: this.#state.policiesKnown,
        locals: [local],
      },
      this.#settings,
    );
    const { allowed, steps } = new Interpreter(ruleset).judge(this.#question);
    // Base chains only lead to those of policies, and a tier to the next.
    const decisive = steps.findLast(
      ({ chain, rule }) => ruleset.chains.get(chain)?.hook === undefined && rule.verdict.kind !== "goto",
    );
    const isLed = steps.length > 0;
    return { allowed, decisive, isLed, policies: ruleset.chains.get(decisive?.chain ?? "")?.policies ?? [] };
  }

  /** The policy of a rule without its others, which keep their places. */
  #alone({ policy: ref, direction, rule: at }: Origin): [NetworkPolicy[], ClusterNetworkPolicy[]] {
    const only = <T extends object>(rules: readonly T[] | undefined) =>
      (rules ?? []).map((rule, i) => (i === at ? rule : { ...rule, peers: [], ports: [] }));
    if (ref.kind === "ClusterNetworkPolicy") {
      const found = this.#clusterPolicies.filter(({ name }) => name === ref.name);
      return [[], found.map((policy) => ({ ...policy, [direction]: only(policy[direction]) }))];
    }
    const found = this.#policies.filter(({ namespace, name }) => namespace === ref.namespace && name === ref.name);
    return [found.map((policy) => ({ ...policy, [direction]: only(policy[direction]) })), []];
  }
}

function findEnd(state: ExplainState, bytes: Uint8Array): FoundEnd {
  const address = formatAddress(bytes);
  const has = ({ addresses }: { readonly addresses: readonly Uint8Array[] }) =>
    addresses.some((own) => formatAddress(own) === address);
  const attached = [...state.locals].find(has);
  const node = [...state.nodes].find(has)?.name;
  if (attached !== undefined) {
    return { address, node, pod: nameOf(attached), local: attached, object: withOwnAddresses(attached, state) };
  }
  const object = [...state.pods.values()].find((pod) => !pod.hostNetwork && !pod.ended && has(pod));
  if (object === undefined) return { address, node, pod: undefined, local: undefined, object: undefined };
  const { namespace, name, uid, addresses } = object;
  return { address, node, pod: nameOf(object), local: { id: uid, namespace, name, uid, addresses }, object };
}

/** The pod as others have it as a peer: its attachment's addresses are known before kubelet has told them to anybody. */
function withOwnAddresses(attached: LocalPod, { pods }: ExplainState): KubePod | undefined {
  const object = pods.get(keyOf(attached));
  if (object === undefined || (attached.uid !== undefined && attached.uid !== object.uid)) return object;
  return { ...object, addresses: [...object.addresses, ...attached.addresses] };
}

function nameOf({ namespace, name }: { readonly namespace: string; readonly name: string }) {
  return { namespace, name };
}

function endOf({ address, pod, node }: FoundEnd): End {
  return { address, pod, node };
}
