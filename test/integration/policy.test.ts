// SPDX-License-Identifier: Apache-2.0
//
// Network policies with the built programs: the API server is the double, packets are real.
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { nodeAddresses } from "../helpers/cluster/fabric.ts";
import { Cleanup, type Daemon, waitFor } from "../helpers/daemon.ts";
import { type Mailbox, openMailbox } from "../helpers/datagrams.ts";
import { goesOn, serveEcho, talk } from "../helpers/echo.ts";
import { flood } from "../helpers/flood.ts";
import { httpGet, METRICS_ADDRESS } from "../helpers/http-get.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { addressesOf, failureOf, resultOf } from "../helpers/plugin.ts";
import { CLUSTER_POLICIES, PODS, POLICIES, type RunningPod, Site } from "../helpers/policy/site.ts";

/** How many pods the first packets of are tried; thousands now and then: FIRST_PACKET_PODS=3000. */
const FIRST_PACKET_PODS = Number(process.env["FIRST_PACKET_PODS"] ?? 60);
const AT_ONCE = 4;
/** Of the link that the node stands on. */
const FABRIC = nodeAddresses(254);

/** Denies everything, in both directions, to pods with the label. */
const CLOSED = {
  metadata: { name: "closed" },
  spec: { podSelector: { matchLabels: { app: "closed" } }, policyTypes: ["Ingress", "Egress"] },
};
/** Lets clients to the web. */
const WEB = {
  metadata: { name: "web" },
  spec: {
    podSelector: { matchLabels: { app: "web" } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: "client" } } }] }],
  },
};

/** Waits until nothing comes through a conversation any more. */
async function isSilent(talker: Daemon): Promise<void> {
  await waitFor(async () => {
    const before = talker.output().length;
    await sleep(500);
    return talker.output().length === before;
  });
}

/** Which of the labels something was received of. */
function labelsIn(mailbox: Mailbox): string[] {
  return [...new Set(mailbox.received().map(({ text }) => text.split(" ")[0] as string))].sort();
}

function targetsOf(addresses: readonly string[], port: number, label: string) {
  return addresses.map((address) => ({ address, port, label: `${label}${address.includes(":") ? 6 : 4}` }));
}

describe.runIf(canUseKernel())("network policies", () => {
  test("end connections that they don't allow any more, and only those", async () => {
    const site = await Site.open();
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    const web = await site.run("web", { app: "web" });
    const [first, second] = [await site.run("first", { app: "client" }), await site.run("second", { app: "client" })];
    for (const one of [web, first, second]) await site.report(one);
    await serveEcho(web.pod.netns, 80, site.cleanup);
    const talks = (from: RunningPod) =>
      Promise.all(web.addresses.map((address) => talk(from.pod.netns, address, 80, site.cleanup)));
    const [staying, ending] = [await talks(first), await talks(second)];
    await site.api.admin.patch(`${PODS}/second`, { metadata: { labels: { app: "other" } } });
    for (const one of ending) await isSilent(one);
    for (const one of staying) await goesOn(one);
    // And one that was allowed because nothing was said about it.
    await serveEcho(first.pod.netns, 80, site.cleanup);
    const unmentioned = await talk(web.pod.netns, first.addresses[0] as string, 80, site.cleanup);
    await site.api.admin.create(POLICIES, { ...CLOSED, spec: { podSelector: { matchLabels: { app: "client" } } } });
    await isSilent(unmentioned);
    for (const one of staying) await goesOn(one);
  }, 60_000);

  test("say whom they denied, and count", async () => {
    const site = await Site.open({ metricsAddress: METRICS_ADDRESS });
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    const web = await site.run("web", { app: "web" });
    const other = await site.run("other", { app: "other" });
    await site.report(other);
    await flood(other.pod.netns.path, { targets: targetsOf(web.addresses, 5353, "x"), intervalUs: 5000 }, site.cleanup);
    const told = () => site.node.log().filter(({ msg }) => msg === "a packet is denied by network policies");
    await waitFor(() => new Set(told().map(({ source }) => source)).size === 2);
    expect(told()[0]).toMatchObject({
      sourcePod: "shop/other",
      destinationPod: "shop/web",
      protocol: "UDP",
      port: 5353,
      direction: "ingress",
      policies: ["shop/web"],
    });
    const { body: text } = await httpGet(site.node.netns, METRICS_ADDRESS, "/metrics");
    expect(text).toMatch(
      /^flatnet_policy_packets_total\{policy="shop\/web",direction="ingress",verdict="denied"\} [1-9]/m,
    );
    expect(text).toMatch(/^flatnet_policy_synced 1$/m);
    expect(text).toMatch(/^flatnet_policy_enforced_seconds_count\{since="add"\} 2$/m);
  });

  test("are in force before runtimes hear of the network, and before a node is ready", async () => {
    const healthAddress = "127.0.0.1:26219";
    const confDir = mkdtempSync(join(tmpdir(), "flatnet-net.d-"));
    const site = await Site.open({ healthAddress, cni: { confDir } });
    site.cleanup.add(() => rmSync(confDir, { recursive: true, force: true }));
    await site.api.admin.create(POLICIES, WEB);
    site.api.faults.fail({ resource: "networkpolicies", status: 503 });
    await site.start();
    const readyz = () => httpGet(site.node.netns, healthAddress, "/readyz");
    await waitFor(async () => (await readyz()).body.includes("[-]conflist"));
    expect(await readyz()).toMatchObject({
      code: 503,
      body: expect.stringContaining("[-]policies: network policies are not known yet\n"),
    });
    expect(readdirSync(confDir)).toEqual([]);
    site.api.faults.heal();
    await waitFor(() => readdirSync(confDir).length === 1, { timeoutMs: 60_000 });
    expect(await site.nft("list", "table", "inet", "flatnet_policy")).toContain("hook forward");
    await waitFor(async () => (await readyz()).code === 200);
  }, 90_000);

  test("are put back when somebody takes their table away", async () => {
    const site = await Site.open();
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    const web = await site.run("web", { app: "web" });
    await site.nft("delete", "table", "inet", "flatnet_policy");
    // A change finds it missing; without one the next comparison would.
    await site.run("client", { app: "client" });
    const map = await site.nft("list", "map", "inet", "flatnet_policy", "ingress4");
    expect(map).toContain(`${web.addresses[0]} : jump i4_`);
  });

  test("are taken away by a daemon that isn't to enforce them any more", async () => {
    const site = await Site.open();
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    await site.run("web", { app: "web" });
    await site.node.stop();
    expect(await site.nft("list", "tables")).toContain("flatnet_policy");
    await site.start("--policy", "false");
    expect(await site.nft("list", "tables")).not.toContain("flatnet_policy");
  });

  test("keep a pod closed that nobody can say anything about, until somebody can", async () => {
    const site = await Site.open();
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    const known = await site.run("known", { app: "client" });
    await site.report(known);
    await site.relay.stop();
    // Kubernetes has it, and this node can't ask.
    const scheduled = await site.schedule("late", { app: "late" });
    const late = await site.attach(scheduled);
    const map = () => site.nft("list", "map", "inet", "flatnet_policy", "egress4");
    expect(await map()).toContain(`${late.addresses[0]} : jump unknown`);
    await site.relay.start();
    await waitFor(async () => !(await map()).includes("unknown"), { timeoutMs: 60_000 });
  }, 90_000);

  test("let through what they allow and nothing else, and change while connections go on", async () => {
    const site = await Site.open();
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    const web = await site.run("web", { app: "web" });
    const client = await site.run("client", { app: "client" });
    const other = await site.run("other", { app: "other" });
    const inbox = await openMailbox(web.pod.netns.path, site.cleanup);
    const send = async (from: RunningPod, label: string) => {
      const targets = targetsOf(web.addresses, inbox.port, label);
      return flood(from.pod.netns.path, { targets, intervalUs: 2000 }, site.cleanup);
    };
    const floods = [await send(client, "client"), await send(other, "other")];
    await waitFor(() => labelsIn(inbox).length === 2);
    expect(labelsIn(inbox)).toEqual(["client4", "client6"]);
    // A label says who may.
    await site.api.admin.patch(`${PODS}/other`, { metadata: { labels: { app: "client" } } });
    await waitFor(() => labelsIn(inbox).length === 4);
    await site.api.admin.delete(`${POLICIES}/web`);
    await site.api.admin.create(POLICIES, { ...CLOSED, spec: { ...CLOSED.spec, podSelector: {} } });
    await waitFor(async () =>
      (await site.nft("list", "map", "inet", "flatnet_policy", "ingress4")).includes(web.addresses[0] as string),
    );
    await Promise.all(floods.map((one) => one.stop()));
  });

  test("of the whole cluster go before those of a namespace, where they are asked for", async () => {
    const site = await Site.open({ policy: { clusterPolicies: true } });
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    const web = await site.run("web", { app: "web" });
    const client = await site.run("client", { app: "client" });
    const inbox = await openMailbox(web.pod.netns.path, site.cleanup);
    const send = async (label: string) => {
      const targets = targetsOf(web.addresses, inbox.port, label);
      return flood(client.pod.netns.path, { targets, intervalUs: 2000 }, site.cleanup);
    };
    const before = await send("before");
    await waitFor(() => labelsIn(inbox).length === 2);
    await before.stop();
    await site.api.admin.create(CLUSTER_POLICIES, {
      metadata: { name: "nobody" },
      spec: {
        tier: "Admin",
        priority: 10,
        subject: { namespaces: {} },
        ingress: [{ action: "Deny", from: [{ namespaces: {} }] }],
      },
    });
    // The client has policies of its own then, which it hadn't.
    await waitFor(async () =>
      (await site.nft("list", "map", "inet", "flatnet_policy", "ingress4")).includes(client.addresses[0] as string),
    );
    const after = await send("after");
    await after.stop();
    expect(labelsIn(inbox)).toEqual(["before4", "before6"]);
    await site.api.admin.delete(`${CLUSTER_POLICIES}/nobody`);
    const again = await send("again");
    await waitFor(() => labelsIn(inbox).length === 4);
    await again.stop();
  });

  test("have no gap, neither open nor closed, while the daemon is killed, away and started again", async () => {
    const site = await Site.open();
    await site.api.admin.create(POLICIES, WEB);
    await site.start();
    const web = await site.run("web", { app: "web" });
    const client = await site.run("client", { app: "client" });
    const other = await site.run("other", { app: "other" });
    for (const one of [web, client, other]) await site.report(one);
    const inbox = await openMailbox(web.pod.netns.path, site.cleanup);
    const send = (from: RunningPod, label: string) => {
      const targets = targetsOf(web.addresses, inbox.port, label);
      return flood(from.pod.netns.path, { targets, intervalUs: 1000 }, site.cleanup);
    };
    await serveEcho(web.pod.netns, 80, site.cleanup);
    const talks = await Promise.all(web.addresses.map((address) => talk(client.pod.netns, address, 80, site.cleanup)));
    const floods = [await send(client, "client"), await send(other, "other")];
    for (let round = 0; round < 5; round++) {
      await site.node.stop("SIGKILL");
      // The last without an API server: what is on disk is enough.
      if (round === 4) await site.relay.stop();
      await site.start();
    }
    const [sent] = await Promise.all(floods.map((one) => one.stop()));
    const expected = Object.entries(sent ?? {}).flatMap(([label, count]) =>
      Array.from({ length: count }, (_, n) => `${label} ${n}`),
    );
    for (const one of talks) await goesOn(one);
    expect(expected.length).toBeGreaterThan(100);
    await waitFor(() => inbox.received().length >= expected.length);
    expect(new Set(inbox.received().map(({ text }) => text))).toEqual(new Set(expected));
  }, 120_000);

  test("are in force before a pod's first packet, also when the daemon is killed and restarted meanwhile", async () => {
    const site = await Site.open();
    await site.api.admin.create(POLICIES, CLOSED);
    await site.start();
    const world = await openMailbox(site.fabric.netns.path, site.cleanup);
    const sink = await site.run("sink", { app: "sink" });
    const inbox = await openMailbox(sink.pod.netns.path, site.cleanup);
    /** As a runtime does: an ADD that the daemon was away for too long for is tried again. */
    const addUntilServed = async (scheduled: Parameters<Site["attach"]>[0]): Promise<RunningPod> => {
      for (;;) {
        const finished = await site.verb("ADD", scheduled);
        if (finished.status === 0 || failureOf(finished).code !== 11) {
          return { ...scheduled, addresses: addressesOf(resultOf(finished)) };
        }
      }
    };
    const tryPod = async (name: string, app: string, kill: boolean) => {
      const cleanup = new Cleanup();
      site.cleanup.add(() => cleanup.run());
      const scheduled = await site.schedule(name, { app }, cleanup);
      const targets = [
        ...targetsOf(sink.addresses, inbox.port, `${app}-pod`),
        ...targetsOf(FABRIC, world.port, `${app}-world`),
      ];
      const flooding = await flood(scheduled.pod.netns.path, { targets, intervalUs: 100 }, cleanup);
      const restarted = async () => {
        if (!kill) return;
        await site.node.stop("SIGKILL");
        await site.start();
      };
      const [running] = await Promise.all([addUntilServed(scheduled), restarted()]);
      const sent = await flooding.stop();
      expect(Object.values(sent).every((count) => count > 0)).toBe(true);
      expect((await site.verb("DEL", running)).status).toBe(0);
      await site.api.admin.delete(`${PODS}/${name}`);
      await cleanup.run();
    };
    for (let n = 0; n < FIRST_PACKET_PODS; n += AT_ONCE) {
      // In every third round the daemon is killed once, while all of them are being added.
      const kill = n % (3 * AT_ONCE) === 2 * AT_ONCE;
      const round = Array.from({ length: AT_ONCE }, (_, i) => tryPod(`closed-${n + i}`, "closed", kill && i === 0));
      await Promise.all(round);
    }
    expect([...labelsIn(inbox), ...labelsIn(world)]).toEqual([]);
    // That the packets would have come.
    await tryPod("open", "open", false);
    await waitFor(() => labelsIn(inbox).length + labelsIn(world).length === 4);
    expect([...labelsIn(inbox), ...labelsIn(world)]).toEqual(["open-pod4", "open-pod6", "open-world4", "open-world6"]);
  }, 3_600_000);
});
