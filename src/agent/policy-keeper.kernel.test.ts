// SPDX-License-Identifier: Apache-2.0
//
// What the keeper of policies makes of a namespace's nftables, as nft tells it.
import { setTimeout as sleep } from "node:timers/promises";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Cleanup, run, waitFor } from "../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, type Netns } from "../../test/helpers/netns.ts";
import { visit } from "../../test/helpers/visit.ts";
import type { AllocationRecord } from "../ipam/records.ts";
import type { Change, Collection } from "../kube/collection.ts";
import type { NetworkPolicy } from "../kube/network-policy.ts";
import { type KubeNamespace, type KubePod, keyOf } from "../kube/objects.ts";
import { NETLINK_NETFILTER, Netlink } from "../netlink/event-loop.ts";
import { NetlinkError } from "../netlink/message.ts";
import { Transactor } from "../nft/transactor.ts";
import { sys, writeAside } from "../sys/node.ts";
import { PolicyKeeper, type PolicyKeeperOptions } from "./policy-keeper.ts";

class Objects<T extends { readonly name: string; readonly namespace?: string }> implements Collection<T> {
  state: Collection<T>["state"] = "unknown";
  readonly objects = new Map<string, T>();
  readonly confirmedAtMs = undefined;
  readonly problem = undefined;
  readonly #subscribers = new Set<(changes: readonly Change<T>[]) => void>();

  subscribe(onChange: (changes: readonly Change<T>[]) => void) {
    this.#subscribers.add(onChange);
    return { close: () => void this.#subscribers.delete(onChange) };
  }

  /** What was known before, as from disk. */
  restore(...objects: T[]): void {
    this.state = "restored";
    for (const one of objects) this.objects.set(keyOf(one), one);
  }

  /** All there is, as after a list. */
  list(...objects: T[]): void {
    this.state = "synced";
    this.#tell(objects.map((after) => ({ key: keyOf(after), before: undefined, after })));
  }

  remove(object: T): void {
    this.#tell([{ key: keyOf(object), before: object, after: undefined }]);
  }

  #tell(changes: readonly Change<T>[]): void {
    for (const { key, after } of changes) {
      if (after === undefined) this.objects.delete(key);
      else this.objects.set(key, after);
    }
    for (const subscriber of this.#subscribers) subscriber(changes);
  }
}

function pod(name: string, app = name): KubePod {
  return {
    ...{ namespace: "shop", name, uid: `uid-${name}`, nodeName: "n", hostNetwork: false, addresses: [], ports: [] },
    ...{ labels: { app }, annotations: {}, ended: false },
  };
}

/** Closes pods with the label, for what comes. */
function policy(app: string, problems: readonly string[] = []): NetworkPolicy {
  const podSelector = [{ key: "app", operator: "In" as const, values: [app] }];
  return { namespace: "shop", name: app, uid: app, podSelector, ingress: [], egress: undefined, problems };
}

function record(name: string, last: number): AllocationRecord {
  return {
    attachment: { network: "n", containerId: name, ifname: "eth0" },
    pod: { namespace: "shop", name, uid: `uid-${name}` },
    ...{ netns: "", hostIfname: "", addresses: [`10.0.0.${last}`], allocatedAtMs: 0, confirmedAtMs: 0, bootId: "" },
    ...{ portMappings: [], aliases: [], extra: {} },
  };
}

const SHOP: KubeNamespace = { name: "shop", labels: {} };

describe.runIf(canUseKernel())("the keeper of policies", () => {
  const cleanup = new Cleanup();
  let netns: Netns;
  beforeEach(async () => {
    netns = await createNetns("keeper", cleanup);
  });
  afterEach(() => cleanup.run());

  const nft = (...args: string[]) => run(netns.command("nft", ...args));
  /** Addresses that are led to a chain, with what is before its "_". */
  const closed = async (direction: "ingress" | "egress" = "ingress") => {
    const text = await nft("list", "map", "inet", "flatnet_policy", `${direction}4`).catch(() => "");
    return [...text.matchAll(/(10\.[0-9.]+) : jump ([a-z]+)/g)]
      .map(([, address, chain]) => `${address} ${chain}`)
      .sort();
  };

  async function open(more: Partial<PolicyKeeperOptions> = {}, restored: readonly KubePod[] = []) {
    const pods = new Objects<KubePod>();
    const namespaces = new Objects<KubeNamespace>();
    const policies = new Objects<NetworkPolicy>();
    if (restored.length > 0) {
      pods.restore(...restored);
      namespaces.restore(SHOP);
      policies.restore(policy("web"));
    }
    const allocations: AllocationRecord[] = [];
    const lines: string[] = [];
    const transactor = visit(netns, () => Transactor.open(sys, writeAside));
    cleanup.add(() => transactor.close());
    const netlink = visit(netns, () => Netlink.open(NETLINK_NETFILTER));
    cleanup.add(() => netlink.close());
    const failing: { with?: NetlinkError } = {};
    const keeper = await PolicyKeeper.open({
      kernel: {
        netlink,
        transactor: {
          transaction: async (requests) => {
            if (failing.with !== undefined) throw failing.with;
            await transactor.transaction(requests);
          },
        },
      },
      objects: { pods, namespaces, policies, clusterPolicies: undefined },
      settings: { onUnknown: "deny", allowFromNode: true },
      findPod: async () => undefined,
      log: pino({}, { write: (line: string) => void lines.push(JSON.parse(line).msg) }),
      knownWaitMs: 50,
      restoredWaitMs: 3_600_000,
      ...more,
    });
    cleanup.add(() => keeper.stop());
    const add = async (...given: Parameters<typeof record>) => {
      const one = record(...given);
      allocations.push(one);
      await keeper.admit(one);
      return one;
    };
    const remove = (one: AllocationRecord) => {
      allocations.splice(allocations.indexOf(one), 1);
      keeper.dismiss(one);
    };
    const know = (...objects: KubePod[]) => {
      namespaces.list(SHOP);
      policies.list(policy("web"));
      pods.list(...objects);
    };
    const start = () => keeper.start({ list: async () => ({ allocations: [...allocations] }) });
    return { keeper, pods, policies, allocations, lines, failing, add, remove, know, start };
  }

  test("enforces at its start what is known, for the attachments that there are", async () => {
    const { know, start, allocations, keeper } = await open();
    allocations.push(record("web", 2), record("other", 3));
    know(pod("web"), pod("other"));
    expect(keeper.waitsFor).toBe("network policies are not in force yet");
    await start();
    expect(await closed()).toEqual(["10.0.0.2 i"]);
    expect([keeper.waitsFor, keeper.problem]).toEqual([undefined, undefined]);
  });

  test("leaves the table of a daemon before as it is until all is known, whoever comes and goes", async () => {
    const before = await open();
    before.allocations.push(record("web", 2));
    before.know(pod("web"));
    await before.start();
    await before.keeper.stop();
    const after = await open();
    after.allocations.push(record("web", 2));
    await after.start();
    const gone = await after.add("late", 3);
    after.remove(gone);
    after.policies.list(policy("web"));
    await sleep(200);
    expect(await closed()).toEqual(["10.0.0.2 i", "10.0.0.3 unknown"]);
    expect(after.keeper.waitsFor).toBe("network policies are not known yet");
    after.know(pod("web"));
    await waitFor(async () => (await closed()).length === 1);
    expect(await closed()).toEqual(["10.0.0.2 i"]);
  });

  test("what is on disk isn't enforced before the API server had time to say what is newer", async () => {
    const before = await open();
    before.allocations.push(record("web", 2));
    before.know(pod("web"));
    await before.start();
    await before.keeper.stop();
    // This one was killed before the pod was on disk: to what is, it is one that nobody knows.
    const after = await open({}, [pod("other")]);
    after.allocations.push(record("web", 2));
    await after.start();
    await sleep(200);
    expect(await closed()).toEqual(["10.0.0.2 i"]);
    after.know(pod("web"));
    await waitFor(() => after.keeper.synced);
    expect(await closed()).toEqual(["10.0.0.2 i"]);
  });

  test("what is on disk is enforced when the API server has had time and said nothing", async () => {
    const { start, allocations, keeper } = await open({ restoredWaitMs: 20 }, [pod("web")]);
    allocations.push(record("web", 2));
    await start();
    await waitFor(() => keeper.synced);
    expect(await closed()).toEqual(["10.0.0.2 i"]);
  });

  test.for([
    ["deny", ["10.0.0.2 unknown"]],
    ["allow", []],
  ] as const)("an ADD before anything is known waits a little; then the pod is as onUnknown says: %s", async (it) => {
    const [onUnknown, expected] = it;
    const { add, start, know } = await open({ settings: { onUnknown, allowFromNode: true } });
    await start();
    await add("other", 2);
    expect(await closed()).toEqual(expected);
    know(pod("other"));
    await waitFor(async () => (await closed()).length === 0);
  });

  test("an ADD is the first to bring in force what has just become known, and then that is of all pods", async () => {
    const { add, start, know, allocations } = await open();
    allocations.push(record("web", 2));
    await start();
    know(pod("web"), pod("other"));
    await add("other", 3);
    expect(await closed()).toEqual(["10.0.0.2 i"]);
  });

  test("a pod's rules are in the kernel when its admission is over", async () => {
    const { add, start, know } = await open();
    know(pod("web"), pod("web-2", "web"), pod("other"));
    await start();
    await add("web", 2);
    expect(await closed()).toEqual(["10.0.0.2 i"]);
    await Promise.all([add("web-2", 4), add("other", 3)]);
    expect(await closed()).toEqual(["10.0.0.2 i", "10.0.0.4 i"]);
  });

  test("who gets the address of a pod that is gone has nothing of its rules", async () => {
    const { add, remove, start, know } = await open();
    know(pod("web"), pod("other"));
    await start();
    remove(await add("web", 2));
    await add("other", 2);
    expect(await closed()).toEqual([]);
    await waitFor(async () => !(await nft("list", "table", "inet", "flatnet_policy")).includes("chain i4_"));
  });

  test("a pod that nobody has told of is asked for once, and forgotten with its attachment", async () => {
    const asked: string[] = [];
    const { add, remove, start, know } = await open({
      findPod: async ({ name }) => {
        asked.push(name);
        return pod(name, "web");
      },
    });
    know();
    await start();
    const late = await add("late", 2);
    expect([await closed(), asked]).toEqual([["10.0.0.2 i"], ["late"]]);
    remove(late);
    await waitFor(async () => (await closed()).length === 0);
  });

  test("a pod that nobody knows is closed in both directions where its namespace has policies", async () => {
    const { add, start, know, pods } = await open();
    know();
    await start();
    await add("late", 2);
    expect([await closed("ingress"), await closed("egress")]).toEqual([["10.0.0.2 unknown"], ["10.0.0.2 unknown"]]);
    pods.list(pod("late"));
    await waitFor(async () => (await closed()).length === 0);
  });

  test("an admission fails when the kernel refuses, and the next one brings everything in force", async () => {
    const { add, start, know, failing } = await open();
    know(pod("web"), pod("web-2", "web"));
    await start();
    failing.with = NetlinkError.refused("add", 12, "");
    await expect(add("web", 2)).rejects.toMatchObject({ code: "POLICY_KERNEL" });
    expect(await closed()).toEqual([]);
    delete failing.with;
    await add("web-2", 3);
    expect(await closed()).toEqual(["10.0.0.2 i", "10.0.0.3 i"]);
  });

  test("a change that the kernel refuses is tried again, and said meanwhile", async () => {
    const { add, start, know, failing, policies, keeper } = await open();
    know(pod("web"));
    await start();
    await add("web", 2);
    failing.with = NetlinkError.refused("add", 12, "");
    policies.remove(policy("web"));
    await waitFor(() => keeper.problem !== undefined);
    expect(keeper.problem).toContain("ENOMEM");
    delete failing.with;
    await waitFor(async () => (await closed()).length === 0);
    await waitFor(() => keeper.problem === undefined);
  });

  test("attachments that came without an admission are found by a pass", async () => {
    const { start, know, allocations, pods } = await open();
    know(pod("web"));
    await start();
    allocations.push(record("web", 2));
    pods.list(pod("another"));
    await waitFor(async () => (await closed()).length === 1);
  });

  test("what can't be used of a policy is told once, where a pod of this node has to do with it", async () => {
    const told: string[] = [];
    const { add, start, know, policies, keeper } = await open({
      onFaulty: (kind, { name, problems }) => void told.push(`${kind} ${name}: ${problems}`),
    });
    know(pod("web"), pod("db"));
    policies.list(policy("web", ["spec.mood is unknown"]), policy("db", ["spec.mood is unknown"]));
    await start();
    await add("web", 2);
    policies.list(policy("web", ["spec.mood is unknown"]));
    await add("other", 3);
    expect([told, keeper.faulty]).toEqual([["NetworkPolicy web: spec.mood is unknown"], 2]);
  });
});
