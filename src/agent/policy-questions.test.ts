// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { HandMade } from "../../test/helpers/collection.ts";
import type { NetworkPolicy } from "../kube/network-policy.ts";
import { type KubeNamespace, type KubePod, keyOf } from "../kube/objects.ts";
import { parseAddress } from "../net/address.ts";
import type { LocalPod, PolicySettings } from "../policy/model.ts";
import { NO_RULESET } from "../policy/ruleset.ts";
import type { PolicyKnowledge } from "./policy-knowledge.ts";
import { explainAll } from "./policy-questions.ts";

const SETTINGS: PolicySettings = { onUnknown: "deny", allowFromNode: true };
const WHERE = { nodeName: "n1", nodes: [{ name: "n1", addresses: [parseAddress("192.0.2.1")], podCIDRs: [] }] };
const CLOSED: NetworkPolicy = {
  ...{ namespace: "shop", name: "closed", uid: "p", podSelector: [{ key: "app", operator: "In", values: ["web"] }] },
  ...{ ingress: [], egress: undefined, problems: [] },
};

function pod(name: string, more: Partial<KubePod> = {}): KubePod {
  return {
    ...{ namespace: "shop", name, uid: `uid-${name}`, nodeName: "n1", hostNetwork: false, addresses: [], ports: [] },
    ...{ labels: { app: name }, annotations: {}, ended: false },
    ...more,
  };
}

function local(name: string, ...addresses: string[]): LocalPod {
  return { id: name, namespace: "shop", name, uid: `uid-${name}`, addresses: addresses.map(parseAddress) };
}

function knowledge(
  pods: readonly KubePod[],
  locals: readonly LocalPod[],
  found: readonly KubePod[] = [],
): PolicyKnowledge {
  const objects = {
    pods: new HandMade<KubePod>(),
    namespaces: new HandMade<KubeNamespace>(),
    policies: new HandMade<NetworkPolicy>(),
  };
  objects.pods.set(Object.fromEntries(pods.map((one) => [keyOf(one), one])));
  objects.namespaces.set({ shop: { name: "shop", labels: {} } });
  objects.policies.set({ "shop/closed": CLOSED });
  return {
    ...{ objects, locals, settings: SETTINGS, policiesKnown: true, ruleset: NO_RULESET, problem: undefined },
    found: new Map(found.map((one) => [keyOf(one), one])),
  };
}

const ask = (known: PolicyKnowledge, source: string, destination: string, port = 80, protocol = "tcp") =>
  explainAll(known, { source, destination, port, protocol }, WHERE).explanations;

test("pods are asked about in each family that both have, by their attachments before kubelet has told", () => {
  const known = knowledge(
    [pod("web"), pod("client")],
    [local("web", "fd00::2", "10.0.0.2"), local("client", "10.0.0.3", "fd00::3")],
  );
  const explanations = ask(known, "shop/client", "shop/web");
  expect(explanations.map(({ allowed, source }) => [allowed, source?.address])).toEqual([
    [false, "10.0.0.3"],
    [false, "fd00::3"],
  ]);
  expect(ask(known, "10.0.0.3", "shop/web")).toHaveLength(1);
});

test("a pod that was asked for is known, whatever the watch has told", () => {
  const known = knowledge([], [local("web", "10.0.0.2")], [pod("web")]);
  expect(ask(known, "192.0.2.9", "shop/web")).toMatchObject([
    { allowed: false, directions: [{ because: "isolated" }] },
  ]);
  const before = knowledge([], [local("web", "10.0.0.2")]);
  expect(ask(before, "192.0.2.9", "shop/web")).toMatchObject([{ directions: [{ because: "unknown" }] }]);
});

test("what another node judges is said to be so, and what this one does isn't", () => {
  const remote = pod("web", { nodeName: "n2", addresses: [parseAddress("10.1.0.2")] });
  const known = knowledge([remote, pod("client")], [local("client", "10.0.0.3")]);
  expect(ask(known, "shop/client", "shop/web")[0]?.directions).toMatchObject([{ judgedOn: "" }, { judgedOn: "n2" }]);
});

test("a pod on its node's network is its node", () => {
  const agent = pod("agent", { hostNetwork: true, addresses: [parseAddress("192.0.2.1")] });
  const known = knowledge([agent, pod("web")], [local("web", "10.0.0.2")]);
  expect(ask(known, "shop/agent", "shop/web")).toMatchObject([
    { allowed: true, source: { node: "n1", pod: undefined }, directions: [{ because: "node" }] },
  ]);
});

test.each([
  ["shop/nobody", "shop/web", 80, "tcp", "IPAM_UNKNOWN", 'there is no pod "shop/nobody"'],
  ["shop/over", "shop/web", 80, "tcp", "IPAM_UNKNOWN", 'the pod "shop/over" has ended'],
  ["shop/new", "shop/web", 80, "tcp", "IPAM_UNKNOWN", 'the pod "shop/new" has no address yet'],
  ["fd00::1", "shop/web", 80, "tcp", "IPAM_INVALID", "source and destination have no family in common"],
  ["shop/", "shop/web", 80, "tcp", "IPAM_INVALID", 'source is "shop/"; it must be a pod as namespace/name'],
  ["10.0.0.1", "a/b/c", 80, "tcp", "IPAM_INVALID", 'destination is "a/b/c"'],
  ["10.0.0.1", "", 80, "tcp", "IPAM_INVALID", 'destination is ""'],
  ["10.0.0.1", "shop/web", 0, "tcp", "IPAM_INVALID", "port is 0; it must be 1 to 65535"],
  ["10.0.0.1", "shop/web", 65_536, "udp", "IPAM_INVALID", "port is 65536"],
  ["10.0.0.1", "shop/web", 80, "icmp", "IPAM_INVALID", "port is 80; it must be 0 with icmp"],
  ["10.0.0.1", "shop/web", 80, "gre", "IPAM_INVALID", 'protocol is "gre"; it must be tcp, udp, sctp or icmp'],
  ["10.0.0.1", "shop/web", 80, "toString", "IPAM_INVALID", 'protocol is "toString"'],
])("from %s to %s, port %s of %s is refused with %s", (source, destination, port, protocol, code, message) => {
  const over = pod("over", { ended: true, addresses: [parseAddress("10.0.0.9")] });
  const known = knowledge([pod("web"), pod("new"), over], [local("web", "10.0.0.2")]);
  const refusal = expect(() => ask(known, source, destination, port, protocol));
  refusal.toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
});
