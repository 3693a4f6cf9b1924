// SPDX-License-Identifier: Apache-2.0
//
// A cluster of 10,000 pods with 1,000 policies as the API server has it, and its policies as a straightforward program would write
// them down: a chain of iptables for each pod, with a rule for each address of a peer and each port. Pure.

import type { NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule } from "../src/kube/network-policy.ts";
import type { KubeNamespace, KubePod } from "../src/kube/objects.ts";
import { selects } from "../src/kube/selector.ts";
import { familyOf, formatAddress } from "../src/net/address.ts";
import { formatPrefix } from "../src/net/prefix.ts";

export const PODS = 10_000;
export const NAMESPACES = 50;
/** Of each namespace: each has a policy, and ten pods. */
export const APPS = 20;
const NODES = 100;
const RULES_OF_ONE = 100;

const hex = (n: number) => n.toString(16);

/** Of the n-th pod, from 0: ones of one node are of every namespace and of every app. */
function placeOf(n: number): { namespace: string; app: string; node: string } {
  const [home, i] = [n % NAMESPACES, Math.floor(n / NAMESPACES)];
  return { namespace: `team-${home}`, app: `app-${i % APPS}`, node: `node-${((n + i) % NODES) + 1}` };
}

/** The n-th pod, from 0, with other labels where they are given. */
export function podObject(n: number, labels: Readonly<Record<string, string>> = {}) {
  const { namespace, app, node } = placeOf(n);
  const addresses = [`10.64.${n >> 8}.${n & 255}`, `fd00:64::${hex(n + 1)}`];
  return {
    metadata: {
      namespace,
      name: `${app}-7d4b9c6f5d-${n.toString(36).padStart(5, "x")}`,
      uid: `00000000-0000-4000-8000-${hex(n).padStart(12, "0")}`,
      labels: { app, tier: n % 2 === 0 ? "web" : "data", "pod-template-hash": "7d4b9c6f5d", ...labels },
    },
    spec: { nodeName: node, containers: [{ name: "main", ports: [{ name: "http", containerPort: 8080 }] }] },
    status: { phase: "Running", podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) },
  };
}

export function namespaceObject(n: number) {
  return { metadata: { name: `team-${n}`, labels: { team: `${n}`, stage: n % 3 === 0 ? "test" : "live" } } };
}

/** An app of a namespace: who comes to it, and whom it goes to; names are asked of somebody else, and so is a block outside. */
export function policyObject(n: number) {
  const [home, app] = [n % NAMESPACES, Math.floor(n / NAMESPACES)];
  const labelled = (of: number) => ({ matchLabels: { app: `app-${of % APPS}` } });
  const team = (of: number) => ({ matchLabels: { team: `${of % NAMESPACES}` } });
  return {
    metadata: { namespace: `team-${home}`, name: `app-${app}`, uid: `policy-${n}` },
    spec: {
      podSelector: labelled(app),
      policyTypes: ["Ingress", "Egress"],
      ingress: [
        { from: [{ podSelector: labelled(app + 1) }], ports: [{ port: "http" }] },
        { from: [{ namespaceSelector: team(home + 1), podSelector: labelled(0) }], ports: [{ port: 9090 }] },
      ],
      egress: [
        { to: [{ podSelector: labelled(app + APPS - 1) }], ports: [{ port: 8080 }] },
        {
          to: [{ namespaceSelector: team(0), podSelector: labelled(1) }],
          ports: ["UDP", "TCP"].map((protocol) => ({ protocol, port: 53 })),
        },
        { to: [{ ipBlock: { cidr: `172.16.${app}.0/24`, except: [`172.16.${app}.1/32`] } }], ports: [{ port: 443 }] },
      ],
    },
  };
}

/** So many rules that let nobody in who is there, and a last one that lets `client` in: in policies of a hundred rules. */
export function manyRules(
  count: number,
  client: string,
): { spec: object; metadata: { namespace: string; name: string } }[] {
  const rules = Array.from({ length: count }, (_, i) =>
    i === count - 1
      ? { from: [{ ipBlock: { cidr: `${client}/32` } }] }
      : { from: [{ ipBlock: { cidr: `${stranger(i)}/32` } }], ports: [{ port: portOf(i) }] },
  );
  return Array.from({ length: Math.ceil(count / RULES_OF_ONE) }, (_, n) => ({
    metadata: { namespace: "ruled", name: `many-${n}` },
    spec: { podSelector: {}, ingress: rules.slice(n * RULES_OF_ONE, (n + 1) * RULES_OF_ONE) },
  }));
}

/** What `manyRules` says, for the pod at an address, as one chain of iptables. */
export function manyLines(count: number, client: string, pod: string): string {
  if (count === 0) return table([], new Map());
  const strangers = Array.from(
    { length: count - 1 },
    (_, i) => `-s ${stranger(i)} -p tcp --dport ${portOf(i)} -j ACCEPT`,
  );
  return table(
    [`-A FORWARD -d ${pod} -j POD`],
    new Map([["POD", [...strangers, `-s ${client} -j ACCEPT`, "-j DROP"]]]),
  );
}

const stranger = (i: number) => `172.16.${i >> 8}.${i & 255}`;
const portOf = (i: number) => 1000 + (i % 500);

function table(forward: readonly string[], chains: ReadonlyMap<string, readonly string[]>): string {
  return [
    "*filter",
    ":FORWARD ACCEPT [0:0]",
    ...[...chains.keys()].map((name) => `:${name} - [0:0]`),
    "-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ...forward,
    ...[...chains].flatMap(([name, rules]) => rules.map((rule) => `-A ${name} ${rule}`)),
    "COMMIT",
    "",
  ].join("\n");
}

interface Everything {
  readonly pods: readonly KubePod[];
  readonly namespaces: readonly KubeNamespace[];
  readonly policies: readonly NetworkPolicy[];
}

/** What iptables-restore takes for a family: who is meant is looked for in all pods, for each pod of the node. */
export function linearLines({ pods, namespaces, policies }: Everything, node: string, family: 4 | 6): string {
  const labels = new Map(namespaces.map((namespace) => [namespace.name, namespace.labels]));
  const own = (pod: KubePod) => pod.addresses.filter((address) => familyOf(address) === family).map(formatAddress);
  const meant = (peer: PolicyPeer, home: string): string[] => {
    if (peer.kind === "block") return peer.cidr.family === family ? [formatPrefix(peer.cidr)] : [];
    return pods.flatMap((pod) => {
      const isThere =
        peer.namespaces === undefined
          ? pod.namespace === home
          : selects(peer.namespaces, labels.get(pod.namespace) ?? {});
      return isThere && selects(peer.pods, pod.labels) ? own(pod) : [];
    });
  };
  const forward: string[] = [];
  const chains = new Map<string, string[]>();
  for (const [n, pod] of pods.filter(({ nodeName }) => nodeName === node).entries()) {
    for (const direction of ["ingress", "egress"] as const) {
      const [end, peerEnd] = direction === "ingress" ? ["-d", "-s"] : ["-s", "-d"];
      const selecting = policies.filter(
        (one) =>
          one.namespace === pod.namespace && one[direction] !== undefined && selects(one.podSelector ?? [], pod.labels),
      );
      if (selecting.length === 0) continue;
      const name = `POD-${n}-${direction}`;
      const lines = selecting.flatMap((policy) =>
        (policy[direction] ?? []).flatMap((rule: PolicyRule) =>
          (rule.peers ?? []).flatMap((peer) =>
            meant(peer, policy.namespace).flatMap((address) =>
              (rule.ports ?? []).map((port) => `${peerEnd} ${address} ${portMatch(port, pod)} -j RETURN`),
            ),
          ),
        ),
      );
      chains.set(name, [...lines, "-j DROP"]);
      for (const address of own(pod)) forward.push(`-A FORWARD ${end} ${address} -j ${name}`);
    }
  }
  return table(forward, chains);
}

function portMatch(port: PolicyPort, pod: KubePod): string {
  const protocol = `-p ${port.protocol.toLowerCase()}`;
  if (port.kind === "all") return protocol;
  if (port.kind === "range") return `${protocol} --dport ${port.first}:${port.last}`;
  return `${protocol} --dport ${pod.ports.find(({ name }) => name === port.name)?.port ?? 0}`;
}
