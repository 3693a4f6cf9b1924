// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { clusters, podTraits } from "../../test/helpers/policy/clusters.ts";
import type { TestCluster, TestPod } from "../../test/helpers/policy/evaluator.ts";
import { type KubePod, keyOf } from "../kube/objects.ts";
import { parseAddress } from "../net/address.ts";
import { compile, modelOf } from "./compile.ts";
import { diff } from "./diff.ts";
import { Interpreter } from "./interpret.ts";
import { type LocalPod, PolicyModel } from "./model.ts";
import { isEmpty, NO_RULESET, type Ruleset } from "./ruleset.ts";
import { applyChange, refuseDangling } from "./testing/apply-change.ts";
import { kubePod, localPod, networkPolicy, packetOf, SETTINGS, stateOf } from "./testing/test-cluster.ts";

const NODE = "n1";

/** From one cluster to another, as the changes of objects that a watch would tell, in any order. */
function changesBetween(before: TestCluster, after: TestCluster): ((model: PolicyModel) => void)[] {
  const changes: ((model: PolicyModel) => void)[] = [];
  const compare = <T>(old: readonly T[], now: readonly T[], key: (item: T) => string, tell: Tell<T>) => {
    const next = new Map(now.map((item) => [key(item), item]));
    for (const item of old) if (!next.has(key(item))) changes.push((model) => tell(model, key(item), undefined));
    for (const [name, item] of next) changes.push((model) => tell(model, name, item));
  };
  compare(
    before.namespaces,
    after.namespaces,
    ({ name }) => name,
    (model, key, item) => model.setNamespace(key, item),
  );
  compare(before.policies.map(networkPolicy), after.policies.map(networkPolicy), keyOf, (model, key, item) =>
    model.setPolicy(key, item),
  );
  compare(before.pods.map(kubePod), after.pods.map(kubePod), keyOf, (model, key, item) => model.setPod(key, item));
  compare(
    localsOf(before),
    localsOf(after),
    ({ id }) => id,
    (model, key, item) => model.setLocal(key, item),
  );
  return changes;
}

type Tell<T> = (model: PolicyModel, key: string, item: T | undefined) => void;

function localsOf({ pods }: TestCluster): LocalPod[] {
  return pods.filter(({ node }) => node === NODE).flatMap((pod) => localPod(pod) ?? []);
}

/** What of it can be compared: order is nobody's business. */
function plain({ sets, chains }: Ruleset) {
  return {
    sets: Object.fromEntries(
      [...sets].map(([name, { elements, ...set }]) => [
        name,
        { ...set, elements: elements instanceof Map ? Object.fromEntries(elements) : [...elements.keys()].sort() },
      ]),
    ),
    chains: Object.fromEntries(chains),
  };
}

test("however a cluster became what it is, in whatever steps and order, its ruleset is the one that is compiled of it", () => {
  fc.assert(
    fc.property(fc.array(clusters, { minLength: 2, maxLength: 4 }), fc.infiniteStream(fc.nat()), (steps, random) => {
      const [first, ...rest] = steps as [TestCluster, ...TestCluster[]];
      const model = modelOf(stateOf(first, NODE), SETTINGS);
      let kernel = applyChange(NO_RULESET, model.commit());
      let cluster = first;
      for (const next of rest) {
        const changes = shuffled(changesBetween(cluster, next), random);
        cluster = next;
        changes.forEach((change, i) => {
          change(model);
          // Some together, some alone.
          if (i % 3 !== 0) return;
          kernel = applyChange(kernel, model.commit());
          expect(plain(kernel)).toEqual(plain(model.ruleset));
        });
        kernel = applyChange(kernel, model.commit());
        const target = compile(stateOf(cluster, NODE), SETTINGS);
        expect(plain(model.ruleset)).toEqual(plain(target));
        expect(plain(kernel)).toEqual(plain(target));
        expect(isEmpty(model.commit())).toBe(true);
      }
    }),
  );
}, 60_000);

test("the difference of two rulesets makes one of the other, by steps that the kernel takes", () => {
  fc.assert(
    fc.property(clusters, clusters, (one, other) => {
      const [before, after] = [one, other].map((cluster) => compile(stateOf(cluster, NODE), SETTINGS));
      if (before === undefined || after === undefined) return;
      const applied = applyChange(before, diff(before, after));
      refuseDangling(applied);
      expect(plain(applied)).toEqual(plain(after));
      expect(isEmpty(diff(after, after))).toBe(true);
    }),
  );
}, 60_000);

function shuffled<T>(items: readonly T[], random: Iterator<number>): T[] {
  return items
    .map((item) => ({ item, at: random.next().value as number }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

const SERVER: TestPod = {
  namespace: "x",
  name: "server",
  node: NODE,
  labels: { app: "server" },
  addresses: ["10.244.1.2", "fd00:244:1::2"],
  ports: [],
};
const CLIENT: TestPod = { ...SERVER, name: "client", node: "n2", labels: { app: "client" }, addresses: ["10.244.2.2"] };
const FROM_CLIENTS = networkPolicy({
  metadata: { namespace: "x", name: "from-clients" },
  spec: {
    podSelector: { matchLabels: { app: "server" } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: "client" } } }] }],
  },
});

function small(settings = SETTINGS): PolicyModel {
  const model = new PolicyModel(settings);
  model.setPoliciesKnown(true);
  model.setNamespace("x", { name: "x", labels: {} });
  model.setPolicy("x/from-clients", FROM_CLIENTS);
  model.setPod("x/server", kubePod(SERVER));
  model.setPod("x/client", kubePod(CLIENT));
  model.setLocal("server", localPod(SERVER));
  model.commit();
  return model;
}

const tcp80 = (source: string, destination: string) => packetOf({ source, destination, protocol: "TCP", port: 80 });
const reaches = (model: PolicyModel, source: string, destination = "10.244.1.2") =>
  new Interpreter(model.ruleset).judge(tcp80(source, destination)).allowed;

describe("what a change costs", () => {
  test("a label of a peer is one element of one set", () => {
    const model = small();
    model.setPod("x/client", kubePod({ ...CLIENT, labels: {} }));
    const change = model.commit();
    expect(change).toMatchObject({ newSets: [], newChains: [], replacedChains: [], goneChains: [], goneSets: [] });
    expect(change.elements).toEqual([{ set: expect.stringMatching(/^pods4_/), remove: ["10.244.2.2"], add: [] }]);
    expect(reaches(model, "10.244.2.2")).toBe(false);
  });

  test("another pod with the same policies is a few elements and no chain", () => {
    const model = small();
    const another = { ...SERVER, name: "another", addresses: ["10.244.1.3"] };
    model.setPod("x/another", kubePod(another));
    model.setLocal("another", localPod(another));
    const { elements, ...rest } = model.commit();
    expect(rest).toEqual({ newSets: [], newChains: [], replacedChains: [], goneChains: [], goneSets: [] });
    expect(elements.map(({ set }) => set).sort()).toEqual(["closed_ingress4", "ingress4", "self4"]);
  });

  test("pods that nobody names are nothing", () => {
    const model = small();
    model.setPod("y/other", kubePod({ ...CLIENT, namespace: "y", addresses: ["10.244.2.9"] }));
    expect(isEmpty(model.commit())).toBe(true);
  });

  test("what was changed and changed back is nothing", () => {
    const model = small();
    model.setPod("x/client", kubePod({ ...CLIENT, labels: {} }));
    model.setPolicy("x/from-clients", undefined);
    model.setPolicy("x/from-clients", FROM_CLIENTS);
    model.setPod("x/client", kubePod(CLIENT));
    expect(isEmpty(model.commit())).toBe(true);
  });

  test("the last pod of a policy takes its chains and sets along", () => {
    const model = small();
    model.setLocal("server", undefined);
    model.commit();
    expect(plain(model.ruleset)).toEqual(plain(new PolicyModel(SETTINGS).ruleset));
  });
});

describe("a pod that isn't known yet", () => {
  const stranger: LocalPod = {
    id: "s",
    namespace: "x",
    name: "stranger",
    uid: "uid-of-stranger",
    addresses: [parseAddress("10.244.1.7")],
  };

  test("is closed in a namespace with policies, both ways, and told of", () => {
    const model = small();
    model.setLocal("s", stranger);
    model.commit();
    expect(reaches(model, "10.244.2.2", "10.244.1.7")).toBe(false);
    expect(reaches(model, "10.244.1.7", "192.0.2.7")).toBe(false);
    expect(reaches(model, "10.244.1.7", "10.244.1.7")).toBe(true);
    expect(model.unknownPods()).toEqual([stranger]);
  });

  test("is open in a namespace without, or where it is configured so", () => {
    const model = small();
    model.setLocal("s", { ...stranger, namespace: "y" });
    model.commit();
    expect(reaches(model, "10.244.2.2", "10.244.1.7")).toBe(true);
    const lax = small({ ...SETTINGS, onUnknown: "allow" });
    lax.setLocal("s", stranger);
    lax.commit();
    expect(reaches(lax, "10.244.2.2", "10.244.1.7")).toBe(true);
  });

  test("is closed in any namespace while no policies are known", () => {
    const model = new PolicyModel(SETTINGS);
    model.setLocal("s", { ...stranger, namespace: "y" });
    model.commit();
    expect(reaches(model, "10.244.2.2", "10.244.1.7")).toBe(false);
    model.setPoliciesKnown(true);
    model.commit();
    expect(reaches(model, "10.244.2.2", "10.244.1.7")).toBe(true);
  });

  test("gets its own rules when it is, and not those of another one of its name", () => {
    const model = small();
    model.setLocal("s", stranger);
    const pod: KubePod = { ...kubePod({ ...SERVER, name: "stranger", labels: {}, addresses: [] }), uid: "older" };
    model.setPod("x/stranger", pod);
    model.commit();
    expect(reaches(model, "10.244.2.2", "10.244.1.7")).toBe(false);
    model.setPod("x/stranger", { ...pod, uid: "uid-of-stranger" });
    model.commit();
    expect(reaches(model, "10.244.2.2", "10.244.1.7")).toBe(true);
    expect(model.unknownPods()).toEqual([]);
  });

  test("is a peer by its attachment's address, before its status has one", () => {
    const model = small();
    const client = { ...CLIENT, name: "new", node: NODE, addresses: ["10.244.1.8"] };
    model.setPod("x/new", { ...kubePod(client), addresses: [] });
    model.setLocal("new", localPod(client));
    model.commit();
    expect(reaches(model, "10.244.1.8")).toBe(true);
  });
});

test("an address that two pods have for a moment stays a peer's until the last one gives it up", () => {
  const model = small();
  model.setPod("x/client-2", kubePod({ ...CLIENT, name: "client-2" }));
  model.setPod("x/client", undefined);
  expect(isEmpty(model.commit())).toBe(true);
  model.setPod("x/client-2", kubePod({ ...CLIENT, name: "client-2", ended: true }));
  model.commit();
  expect(reaches(model, "10.244.2.2")).toBe(false);
});

test("a policy that can't be read closes the pods of its namespace and no others", () => {
  const model = small();
  const other = { ...SERVER, namespace: "y", name: "other", addresses: ["10.244.1.9"] };
  model.setPod("y/other", kubePod(other));
  model.setLocal("other", localPod(other));
  model.setPolicy(
    "x/broken",
    networkPolicy({
      metadata: { namespace: "x", name: "broken" },
      spec: { podSelector: { matchLabels: { "not a key": "" } }, policyTypes: ["Egress"], egress: [{}] },
    }),
  );
  model.commit();
  expect(reaches(model, "10.244.1.2", "192.0.2.7")).toBe(false);
  expect(reaches(model, "10.244.2.2", "10.244.1.2")).toBe(true);
  expect(reaches(model, "10.244.1.9", "192.0.2.7")).toBe(true);
});

test("a connection's later segments pass only in a direction that policies judge", () => {
  const model = small();
  const midstream = (source: string, destination: string) =>
    new Interpreter(model.ruleset).judge({ ...tcp80(source, destination), midstream: true }).allowed;
  expect(midstream("10.244.2.2", "10.244.1.2")).toBe(true);
  expect(midstream("10.244.1.2", "10.244.2.2")).toBe(false);
  expect(reaches(model, "10.244.1.2", "10.244.2.2")).toBe(true);
});

test("the node reaches its pods, unless it is configured to be judged", () => {
  const judge = (model: PolicyModel) =>
    new Interpreter(model.ruleset).judge(tcp80("172.18.0.1", "10.244.1.2"), "output").allowed;
  expect(judge(small())).toBe(true);
  expect(judge(small({ ...SETTINGS, allowFromNode: false }))).toBe(false);
});

test("changes of traits of a pod are followed", () => {
  fc.assert(
    fc.property(clusters, fc.array(fc.tuple(fc.nat(), podTraits), { maxLength: 5 }), (cluster, edits) => {
      const model = modelOf(stateOf(cluster, NODE), SETTINGS);
      let kernel = applyChange(NO_RULESET, model.commit());
      const pods = [...cluster.pods];
      for (const [n, traits] of edits) {
        const at = n % pods.length;
        const pod = { ...(pods[at] as TestPod), ...traits };
        pods[at] = pod;
        model.setPod(`${pod.namespace}/${pod.name}`, kubePod(pod));
        kernel = applyChange(kernel, model.commit());
        expect(plain(kernel)).toEqual(plain(compile(stateOf({ ...cluster, pods }, NODE), SETTINGS)));
      }
    }),
  );
}, 60_000);
