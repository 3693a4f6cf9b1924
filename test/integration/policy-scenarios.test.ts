// SPDX-License-Identifier: Apache-2.0
//
// The scenarios that the end-to-end suite of Kubernetes has of NetworkPolicy, with the built programs: three nodes, nine pods, both
// families, and every first packet of each pod to each other.
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup, run } from "../helpers/daemon.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { FAMILIES, type FamilyName, NinePods } from "../helpers/policy/nine-pods.ts";
import type { SentFlow } from "../helpers/policy/packets.ts";
import { type Reach, wrongMatrices } from "../helpers/policy/reach-matrix.ts";
import {
  type PodName,
  type Protocol,
  probesOf,
  type Scenario,
  type Step,
  scenarios,
} from "../helpers/policy/scenarios.ts";

/** How long a change may take to be in force on all nodes, in milliseconds. */
const DEADLINE_MS = 20_000;
const PAUSE_MS = 20;
const PROTOCOLS: readonly Protocol[] = ["TCP", "UDP", "SCTP"];

/** Something that is tried, for people, and whether it is to arrive. */
type Try = SentFlow & Omit<Reach, "got">;

/** Titles don't depend on addresses, which there are none of yet. */
const TITLES = scenarios(() => "").map(({ title }) => title);

/**
 * A scenario of both families at once: a block of addresses of one family allows nothing of the other, so that policies with
 * blocks of either may be in force beside each other.
 */
function both([v4, v6]: readonly [Scenario, Scenario]): readonly Step[] {
  return v4.steps.map((step, i) => {
    const texts = new Set(step.policies.map((policy) => JSON.stringify(policy)));
    const more = (v6.steps[i]?.policies ?? []).filter((policy) => !texts.has(JSON.stringify(policy)));
    const renamed = more.map(({ metadata, spec }) => ({
      metadata: { ...metadata, name: `${metadata.name}-v6` },
      spec,
    }));
    return { ...step, policies: [...step.policies, ...renamed] };
  });
}

describe.runIf(canUseKernel())("network policies of a cluster", () => {
  const cleanup = new Cleanup();
  let site: NinePods;

  beforeAll(async () => {
    site = await NinePods.open(cleanup, { "x/c": { hostPort: 8080, containerPort: 80 } });
  });
  afterAll(() => cleanup.run());

  const look = async (tries: readonly Try[]): Promise<{ marked: boolean; wrong: string }> => {
    const marks = site.marks();
    const arrived = await site.packets.arriving<SentFlow>([...tries, ...marks]);
    const seen = tries.map((one): Reach => ({ ...one, got: arrived.has(one) }));
    return { marked: marks.every((mark) => arrived.has(mark)), wrong: wrongMatrices(seen) };
  };

  /** Soon after all nodes have heard of it everything is as it should be, and stays so. */
  const expectReached = async (tries: readonly Try[]) => {
    const deadline = performance.now() + DEADLINE_MS;
    let last = await look(tries);
    while ((!last.marked || last.wrong !== "") && performance.now() < deadline) {
      await sleep(PAUSE_MS);
      last = await look(tries);
    }
    if (last.wrong !== "") expect.fail(`not as it should be:\n${last.wrong}`);
    expect(last.marked).toBe(true);
    const { wrong } = await look(tries);
    if (wrong !== "") expect.fail(`not as it was any more:\n${wrong}`);
  };

  const triesOf = (step: Step): Try[] =>
    FAMILIES.flatMap((family) =>
      probesOf(step).map((probe): Try => {
        const { from, to, protocol, port } = probe;
        const [source, destination] = [site.addressOf(from, family), site.addressOf(to, family)];
        const what = `${family} ${protocol}/${port}`;
        return { what, from, to, source, destination, protocol, port, expected: step.reaches(probe) };
      }),
    );

  test.each(TITLES.map((title, i) => [title, i] as const))("%s", async (_title, i) => {
    const [v4, v6] = FAMILIES.map((family) => scenarios((pod) => site.addressOf(pod, family))[i]);
    for (const step of both([v4 as Scenario, v6 as Scenario])) {
      await site.apply(step);
      await expectReached(triesOf(step));
    }
  });

  describe("through a service", () => {
    const SERVICES: Readonly<Record<FamilyName, string>> = { IPv4: "10.96.5.5", IPv6: "fd00:96::5:5" };
    const PORT = 8080;
    const BACKENDS: readonly PodName[] = ["x/a", "y/b"];
    const portOf = (backend: PodName) => PORT + BACKENDS.indexOf(backend);

    /** As kube-proxy makes it: on the node of who asks, before anything is forwarded. */
    beforeAll(async () => {
      const rules = FAMILIES.flatMap((family) =>
        BACKENDS.flatMap((backend) => {
          const [ip, to] = [family === "IPv4" ? "ip" : "ip6", site.addressOf(backend, family)];
          const at = family === "IPv4" ? `${to}:80` : `[${to}]:80`;
          const match = `${ip} daddr ${SERVICES[family]} meta l4proto { tcp, udp, sctp } th dport ${portOf(backend)}`;
          return [`${match} dnat ${ip} to ${at}`];
        }),
      );
      const chain = `chain prerouting { type nat hook prerouting priority dstnat\n${rules.join("\n")}\n}`;
      for (const { netns } of site.nodes) await run(netns.command("nft", `table inet services {\n${chain}\n}`));
    });

    const triesThrough = (froms: readonly PodName[], expected: (from: PodName, backend: PodName) => boolean): Try[] =>
      FAMILIES.flatMap((family) =>
        PROTOCOLS.flatMap((protocol) =>
          froms.flatMap((from) =>
            BACKENDS.filter((to) => to !== from).map((to): Try => {
              const [source, destination] = [site.addressOf(from, family), site.addressOf(to, family)];
              const through = { address: SERVICES[family], port: portOf(to) };
              const what = `${family} ${protocol} through a service`;
              return { what, from, to, source, destination, protocol, port: 80, through, expected: expected(from, to) };
            }),
          ),
        ),
      );

    const FROM: readonly PodName[] = ["x/a", "x/b", "x/c", "y/a", "y/b", "z/c"];
    const step = (...policies: Step["policies"]): Step => ({ policies, tries: [], reaches: () => true });

    test("everybody reaches the pods behind it while there is no policy", async () => {
      await site.apply(step());
      await expectReached(triesThrough(FROM, () => true));
    });

    test("a pod's ingress is judged by who asks, whose address stays", async () => {
      const spec = { podSelector: { matchLabels: { pod: "a" } }, ingress: [{ from: [{ podSelector: {} }] }] };
      await site.apply(step({ metadata: { namespace: "x", name: "own" }, spec }));
      await expectReached(triesThrough(FROM, (from, backend) => backend !== "x/a" || from.startsWith("x/")));
    });

    test("egress is judged by the pod and the port behind it, not by the service's", async () => {
      const policy = (name: string, to: object, port: number) => ({
        metadata: { namespace: "x", name },
        spec: {
          podSelector: {},
          policyTypes: ["Egress"],
          egress: [{ to: [to], ports: ["TCP", "UDP", "SCTP"].map((protocol) => ({ protocol, port })) }],
        },
      });
      await site.apply(
        step(
          policy("to-pod", { namespaceSelector: { matchLabels: { ns: "y" } } }, 80),
          // What would allow the service's own address and port allows nothing.
          policy("to-service", { ipBlock: { cidr: `${SERVICES.IPv4}/32` } }, portOf("x/a")),
          policy("to-service-v6", { ipBlock: { cidr: `${SERVICES.IPv6}/128` } }, portOf("x/a")),
        ),
      );
      await expectReached(triesThrough(FROM, (from, backend) => !from.startsWith("x/") || backend === "y/b"));
    });
  });

  test("a port of a node leads to the pod behind it as the pod's policies say", async () => {
    const to = "x/c";
    const tries = (expected: (family: FamilyName, protocol: Protocol) => boolean) =>
      FAMILIES.flatMap((family) =>
        PROTOCOLS.map((protocol): Try => {
          const [source, destination] = [site.addressOf("outside", family), site.addressOf(to, family)];
          const through = { address: site.nodeAddressOf(to, family), port: 8080 };
          const what = `${family} ${protocol} by a port of the node`;
          const wanted = expected(family, protocol);
          return { what, from: "outside", to, source, destination, protocol, port: 80, through, expected: wanted };
        }),
      );
    const policy = (ingress: readonly object[]): Step => ({
      policies: [{ metadata: { namespace: "x", name: "one" }, spec: { podSelector: {}, ingress } }],
      tries: [],
      reaches: () => true,
    });
    await site.apply({ policies: [], tries: [], reaches: () => true });
    await expectReached(tries(() => true));
    await site.apply(policy([{ from: [{ namespaceSelector: {} }] }]));
    await expectReached(tries(() => false));
    // By the port that the pod has, and whose address it is that asks.
    const from = [{ ipBlock: { cidr: `${site.addressOf("outside", "IPv4")}/32` } }];
    await site.apply(policy([{ from, ports: [{ protocol: "UDP", port: 80 }, { port: 8080 }] }]));
    await expectReached(tries((family, protocol) => family === "IPv4" && protocol === "UDP"));
  });
});
