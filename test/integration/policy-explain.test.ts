// SPDX-License-Identifier: Apache-2.0
//
// What `flatnetctl policy` says, with the built programs, against what packets really do.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { parse } from "yaml";
import { ROOT } from "../../scripts/repo.ts";
import { DaemonClient } from "../../src/ctl/daemon-client.ts";
import { PolicyServiceDefinition } from "../../src/gen/flatnet/policy/v1/policy.ts";
import { nodeAddresses } from "../helpers/cluster/fabric.ts";
import { Cleanup, type Finished, runToEnd, waitFor } from "../helpers/daemon.ts";
import { createNode } from "../helpers/flatnet-node.ts";
import { httpGet, METRICS_ADDRESS } from "../helpers/http-get.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { built } from "../helpers/plugin.ts";
import type { Flow } from "../helpers/policy/evaluator.ts";
import { Packets } from "../helpers/policy/packets.ts";
import { CLUSTER_POLICIES, PODS, POLICIES, Site } from "../helpers/policy/site.ts";

const { explain } = PolicyServiceDefinition.methods;

/** Who may come to the web: clients to its port, the world's IPv4 to another. */
const WEB = {
  metadata: { name: "web" },
  spec: {
    podSelector: { matchLabels: { app: "web" } },
    ingress: [
      { from: [{ podSelector: { matchLabels: { app: "client" } } }], ports: [{ port: "http" }] },
      { from: [{ ipBlock: { cidr: "192.0.2.0/24" } }], ports: [{ protocol: "UDP", port: 81, endPort: 82 }] },
    ],
  },
};
/** Whom the shut may go to. */
const SHUT = {
  metadata: { name: "shut" },
  spec: {
    podSelector: { matchLabels: { app: "shut" } },
    policyTypes: ["Egress"],
    egress: [{ to: [{ podSelector: { matchLabels: { app: "client" } } }] }],
  },
};
const ODD = {
  metadata: { name: "odd" },
  spec: { podSelector: { matchLabels: { app: "odd" } }, ingress: [{ from: [], form: "of a newer API" }] },
};
const ADMIN = {
  metadata: { name: "no-icmp-to-clients" },
  spec: {
    tier: "Admin",
    priority: 10,
    subject: { pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: "client" } } } },
    ingress: [
      { action: "Deny", from: [{ pods: { namespaceSelector: {}, podSelector: { matchLabels: { app: "odd" } } } }] },
    ],
  },
};

/** Another one of the tier, whose rules are about nobody. */
const ADMIN_TOO = {
  metadata: { name: "too" },
  spec: {
    ...ADMIN.spec,
    priority: 11,
    ingress: [{ action: "Deny", from: [{ namespaces: { matchLabels: { no: "body" } } }] }],
  },
};

function ctl(site: { readonly node: { readonly socket: string } }, ...args: string[]): Promise<Finished> {
  return runToEnd([built("flatnetctl"), "policy", ...args, "--socket", site.node.socket]);
}

const EVENTS = {
  ...{ name: "Event", plural: "events", group: "", apiVersion: "v1", namespaced: true, statusApart: false },
};

interface EventObject {
  readonly involvedObject: { readonly kind: string; readonly namespace?: string; readonly name: string };
  readonly reason: string;
  readonly message: string;
}

/** A site whose pods are under all of them. */
async function openSite() {
  const site = await Site.open({ policy: { clusterPolicies: true } });
  for (const policy of [WEB, SHUT, ODD]) await site.api.admin.create(POLICIES, policy);
  for (const policy of [ADMIN, ADMIN_TOO]) await site.api.admin.create(CLUSTER_POLICIES, policy);
  await site.start();
  const ports = [{ name: "http", containerPort: 80 }];
  const web = await site.run("web", { app: "web" }, { containers: [{ name: "web", ports }] });
  const client = await site.run("client", { app: "client" });
  const shut = await site.run("shut", { app: "shut" });
  const odd = await site.run("odd", { app: "odd" });
  const spec = { nodeName: "node-2" };
  await site.api.admin.create(PODS, { metadata: { name: "remote", labels: { app: "web" } }, spec });
  const status = { phase: "Running", podIP: "10.86.0.2", podIPs: [{ ip: "10.86.0.2" }] };
  await site.api.admin.patch(`${PODS}/remote/status`, { status });
  await waitFor(async () => (await ctl(site, "explain", "shop/client", "shop/remote:80")).status !== 2);
  return { site, web, client, shut, odd };
}

describe.runIf(canUseKernel())("flatnetctl policy", () => {
  test("explains of every connection between pods, node and world what becomes of it", async () => {
    const { site, ...pods } = await openSite();
    const { web, client, shut, odd } = pods;
    const world = nodeAddresses(254);
    await site.fabric.netns.ip("route", "add", "10.85.0.0/16", "via", nodeAddresses(1)[0]);
    await site.fabric.netns.ip("route", "add", "fd00:85:1::/64", "via", nodeAddresses(1)[1]);
    const packets = new Packets(site.cleanup);
    for (const { pod, addresses } of [web, client, shut, odd]) {
      await packets.open(pod.netns.path, addresses, nodeAddresses(1));
    }
    await packets.open(site.node.netns.path, nodeAddresses(1), web.addresses);
    await packets.open(site.fabric.netns.path, world, nodeAddresses(1));

    const ends: (readonly string[])[] = [web, client, shut, odd].map(({ addresses }) => addresses);
    ends.push(nodeAddresses(1), world);
    const what: Pick<Flow, "protocol" | "port">[] = [
      { protocol: "TCP", port: 80 },
      { protocol: "TCP", port: 81 },
      { protocol: "UDP", port: 82 },
      { protocol: "SCTP", port: 80 },
      { protocol: "ICMP", port: undefined },
    ];
    const flows = ends.flatMap((from) =>
      ends.flatMap((to) =>
        // What is between node and world is nobody's pod's.
        from === to || (!isPod(from) && !isPod(to))
          ? []
          : [0, 1].flatMap((family) =>
              what.map((one): Flow => ({ source: from[family] ?? "", destination: to[family] ?? "", ...one })),
            ),
      ),
    );
    const arrived = await packets.arriving(flows);
    const daemon = await DaemonClient.connect(site.node.socket);
    site.cleanup.add(() => daemon.close());
    const said = new Set<Flow>();
    for (const flow of flows) {
      const { source, destination, protocol, port = 0 } = flow;
      const question = { source, destination, protocol: protocol.toLowerCase(), port };
      const { explanations } = await daemon.call(explain, question, PolicyServiceDefinition);
      expect(explanations).toHaveLength(1);
      if (explanations[0]?.allowed) said.add(flow);
    }
    const wrong = flows.filter((flow) => said.has(flow) !== arrived.has(flow));
    expect(wrong).toEqual([]);
    // Neither is all of it allowed nor none.
    expect(arrived.size).toBeGreaterThan(20);
    expect(flows.length - arrived.size).toBeGreaterThan(20);

    function isPod(addresses: readonly string[]): boolean {
      return Object.values(pods).some((pod) => pod.addresses === addresses);
    }
  }, 120_000);

  test("names the rules, the policies that isolate, the other node; and its exit status is the answer", async () => {
    const { site, web, client, odd } = await openSite();
    const allowed = await ctl(site, "explain", "shop/client", "shop/web:80");
    expect(allowed).toEqual({
      status: 0,
      stderr: "",
      stdout: [0, 1]
        .flatMap((family) => [
          ...(family === 0 ? [] : [""]),
          `${client.addresses[family]} (shop/client) to ${web.addresses[family]} (shop/web), TCP 80: allowed`,
          "  egress of shop/client: allowed, no policy is about it",
          "  ingress of shop/web: allowed by",
          "    NetworkPolicy shop/web ingress[0]",
        ])
        .map((line) => `${line}\n`)
        .join(""),
    });
    const denied = await ctl(site, "explain", "shop/shut", `${web.addresses[0]}:82/udp`);
    expect(denied).toMatchObject({ status: 1, stderr: "" });
    expect(denied.stdout).toContain(
      "  egress of shop/shut: denied, it is selected by these and no rule of them allows it\n    NetworkPolicy shop/shut\n",
    );
    expect(denied.stdout).toContain("  ingress of shop/web: denied, it is selected by these");
    const byRule = await ctl(site, "explain", "shop/odd", "shop/client/icmp");
    expect(byRule.status).toBe(1);
    expect(byRule.stdout).toContain("denied by\n    ClusterNetworkPolicy no-icmp-to-clients ingress[0]\n");
    // The log says so too, once it has happened.
    const packets = new Packets(site.cleanup);
    for (const { pod, addresses } of [client, odd]) await packets.open(pod.netns.path, addresses, nodeAddresses(1));
    await packets.open(site.node.netns.path, nodeAddresses(1), client.addresses);
    const [source = "", destination = ""] = [odd.addresses[0], client.addresses[0]];
    expect((await packets.arriving([{ source, destination, protocol: "ICMP", port: undefined }])).size).toBe(0);
    await waitFor(() => site.node.log().some(({ sourcePod }) => sourcePod === "shop/odd"));
    expect(site.node.log()).toContainEqual(
      expect.objectContaining({ destinationPod: "shop/client", protocol: "ICMP", policies: ["no-icmp-to-clients"] }),
    );
    const elsewhere = await ctl(site, "explain", "shop/client", "shop/remote:81");
    expect(elsewhere.status).toBe(1);
    expect(elsewhere.stdout).toContain("    node-2 judges it: this is what follows from what this node knows\n");
    const world = await ctl(site, "explain", "192.0.2.77", "shop/web:82/udp", "--json");
    expect(world.status).toBe(0);
    expect(JSON.parse(world.stdout)).toMatchObject({
      version: 1,
      explanations: [{ allowed: true, directions: [{ because: "rule", rules: [{ rule: 1 }] }] }],
    });
    for (const [source, target, complaint] of [
      ["shop/nobody", "shop/web:80", 'there is no pod "shop/nobody"'],
      ["10.85.0.300", "shop/web:80", 'source is "10.85.0.300"; it must be a pod as namespace/name, or an address'],
      ["10.0.0.1", "[fd00::1]:80", "source and destination have no family in common: 10.0.0.1 and fd00::1"],
      ["shop/client", "shop/web", '"shop/web" is not DST:PORT[/PROTOCOL]'],
    ] as const) {
      const refused = await ctl(site, "explain", source, target);
      expect(refused).toMatchObject({ status: 2, stdout: "" });
      expect(refused.stderr).toContain(complaint);
    }
  }, 60_000);

  test("lists what is enforced, what was counted, and what can't be used", async () => {
    const { site, web, client } = await openSite();
    const packets = new Packets(site.cleanup);
    await packets.open(web.pod.netns.path, web.addresses, client.addresses);
    await packets.open(client.pod.netns.path, client.addresses, nodeAddresses(1));
    await packets.open(site.node.netns.path, nodeAddresses(1), client.addresses);
    await site.api.admin.patch(`${POLICIES}/web`, { spec: { ingress: [{ from: [{ podSelector: {} }] }] } });
    const [source = "", destination = ""] = [client.addresses[0], web.addresses[0]];
    await waitFor(async () => (await ctl(site, "explain", "shop/client", "shop/web:99")).status === 0);
    await packets.arriving([{ source, destination, protocol: "TCP", port: 99 }]);
    const { status, stdout, stderr } = await ctl(site, "list");
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
    expect(stdout).toMatch(/^NetworkPolicy shop\/web +1$/m);
    expect(stdout).toMatch(/^ClusterNetworkPolicy no-icmp-to-clients +1$/m);
    expect(stdout).toContain("NetworkPolicy shop/odd can't be used as a whole: spec.ingress[0]");
    expect(stdout).toMatch(/^allowed +ingress +[1-9]\d* +[1-9]\d* +NetworkPolicy shop\/web ingress\[0\]$/m);
    expect(stdout).toMatch(/^shop\/web +\S+, \S+ +shop\/web +open$/m);
    expect(stdout).toMatch(/^5 of 5 policies select 4 pods of this node\.$/m);
    const { rules, pods } = JSON.parse((await ctl(site, "list", "--json")).stdout);
    expect(rules.length).toBeGreaterThan(3);
    expect(pods).toHaveLength(4);
  }, 60_000);

  test("a policy that can't be used closes its own pods, opens nothing, and is an Event, a metric and a line of the list", async () => {
    const site = await Site.open({ metricsAddress: METRICS_ADDRESS });
    const to = { podSelector: { matchLabels: { app: "cut" } } };
    const cut = { ...to, ingress: [{ from: [{ ipBlock: { cidr: "10.85.0.0/99" } }, { podSelector: {} }] }] };
    await site.api.admin.create(POLICIES, { metadata: { name: "cut" }, spec: cut });
    await site.api.admin.create(POLICIES, ODD);
    await site.start();
    const [free, odd, half] = [
      await site.run("free", {}),
      await site.run("odd", { app: "odd" }),
      await site.run("cut", { app: "cut" }),
    ];
    const packets = new Packets(site.cleanup);
    const node = nodeAddresses(1);
    for (const { pod, addresses } of [free, odd, half]) await packets.open(pod.netns.path, addresses, node);
    await packets.open(site.node.netns.path, node, free.addresses);
    const flow = (from: typeof free, to: typeof free): Flow => ({
      source: from.addresses[0] ?? "",
      destination: to.addresses[0] ?? "",
      ...{ protocol: "TCP", port: 80 },
    });
    const [toFree, toOdd, fromOdd, toHalf] = [flow(half, free), flow(free, odd), flow(odd, free), flow(free, half)];
    // Of the rule that isn't understood nothing is left; of the other one the peer that is.
    const arrived = await packets.arriving([toFree, toOdd, fromOdd, toHalf]);
    expect([...arrived]).toEqual([toFree, fromOdd, toHalf]);

    const events = () => site.api.store.list(EVENTS, "") as unknown as EventObject[];
    await waitFor(() => events().filter(({ reason }) => reason === "PolicyUnusable").length === 2, {
      timeoutMs: 30_000,
    });
    const about = (name: string) => events().find(({ involvedObject }) => involvedObject.name === name);
    const { kind, namespace } = about("odd")?.involvedObject ?? {};
    expect({ kind, namespace }).toEqual({ kind: "NetworkPolicy", namespace: "shop" });
    expect(about("odd")?.message).toContain("spec.ingress[0]");
    expect(about("odd")?.message).toContain('"form"');
    expect(about("cut")?.message).toContain('"10.85.0.0/99"');
    const { body } = await httpGet(site.node.netns, METRICS_ADDRESS, "/metrics");
    expect(body).toMatch(/^flatnet_policy_faulty 2$/m);
    expect((await ctl(site, "list")).stdout).toContain("NetworkPolicy shop/cut can't be used as a whole: ");
  }, 60_000);

  test("does what the documentation says", async () => {
    const blocks = readFileSync(join(ROOT, "docs/policy.md"), "utf8").match(/(?:^ {4}.*\n|^\n(?= {4}))+/gm) ?? [];
    const [, policy = "", questions = "", answers = "", listing = "", listed = "", logged = "", table = ""] =
      blocks.map((block) => block.replace(/^ {4}/gm, "").trim());
    const site = await Site.open();
    const { metadata, spec } = parse(policy);
    await site.api.admin.create(POLICIES, { metadata, spec });
    await site.start();
    const web = await site.run("web", { app: "web" });
    const [client, other] = [await site.run("client", { app: "client" }), await site.run("other", { app: "other" })];
    const packets = new Packets(site.cleanup);
    for (const { pod, addresses } of [web, client, other]) {
      await packets.open(pod.netns.path, addresses, nodeAddresses(1));
    }
    await packets.open(site.node.netns.path, nodeAddresses(1), web.addresses);
    const syns = (from: typeof web, port: number) =>
      web.addresses.map((destination, family): Flow => {
        return { source: from.addresses[family] ?? "", destination, protocol: "TCP", port };
      });
    await packets.arriving([...syns(client, 80), ...syns(other, 80), ...syns(client, 81)]);
    const here = `flatnetctl() { ${built("flatnetctl")} "$@" --socket ${site.node.socket}; }`;
    const run = (script: string) => runToEnd(site.node.netns.command("bash", "--norc", "-c", `${here}\n${script}`));
    const said = (await run(questions)).stdout;
    for (const answer of answers.split(/\n(?=\d)/)) expect(said).toContain(`${answer}\n`);
    expect(said.match(/: denied\n/g)).toHaveLength(2 + 1 + 2);
    expect((await run(listing)).stdout).toBe(`${listed}\n`);
    const fields = (line: string) => ({ ...JSON.parse(line), time: "" });
    await waitFor(() => site.node.log().some(({ sourcePod }) => sourcePod === "shop/other"));
    expect(site.node.log().map((line) => ({ ...line, time: "" }))).toContainEqual(fields(logged));
    const { status, stdout } = await run(table);
    expect(status).toBe(0);
    expect(stdout).toContain(`elements = { ${web.addresses[0]} : jump i4_`);
  }, 60_000);

  test("says plainly that a node doesn't enforce any", async () => {
    const cleanup = new Cleanup();
    try {
      const node = await createNode("nopolicy", cleanup, { podCidrs: ["10.244.1.0/24"] });
      await node.start();
      const refused = await ctl({ node }, "explain", "10.0.0.1", "10.0.0.2:80");
      expect(refused).toMatchObject({ status: 2, stdout: "" });
      expect(refused.stderr).toBe("flatnetctl policy explain: network policies aren't enforced on this node\n");
      expect((await ctl({ node }, "list")).status).toBe(1);
    } finally {
      await cleanup.run();
    }
  });
});
