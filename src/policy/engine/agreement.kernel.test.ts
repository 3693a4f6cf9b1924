// SPDX-License-Identifier: Apache-2.0
//
// Random clusters and policies: what the API's documentation says (evaluator.ts), what the compiled rulesets say (interpret.ts),
// and which packets arrive through two real kernels' tables. All three agree on every flow.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup, run } from "../../../test/helpers/daemon.ts";
import { canUseKernel, createNetns, inNetns, joinByCable, type Netns } from "../../../test/helpers/netns.ts";
import { clusters, flowsOf, NODES, OUTSIDE } from "../../../test/helpers/policy/clusters.ts";
import { allows, type Flow, type TestCluster } from "../../../test/helpers/policy/evaluator.ts";
import { Packets } from "../../../test/helpers/policy/packets.ts";
import { visit } from "../../../test/helpers/visit.ts";
import { NETLINK_NETFILTER, Netlink } from "../../netlink/event-loop.ts";
import { Transactor } from "../../nft/transactor.ts";
import { sys, writeAside } from "../../sys/node.ts";
import { compile } from "../compile.ts";
import { diff } from "../diff.ts";
import { NO_RULESET, type Ruleset } from "../ruleset.ts";
import { Cluster, SETTINGS, stateOf } from "../testing/test-cluster.ts";
import { PolicyTable } from "./policy-table.ts";

/** Clusters that are tried. fast-check prints the seed of one that fails, and makes it smaller. */
const RUNS = 25;
const GROUP = 26220;
/** More than clusters have pods; each may be on either node. */
const PODS = 6;

/** A node's kernel, which gets one ruleset after the other as changes. */
async function openTable(netns: Netns, cleanup: Cleanup): Promise<(wanted: Ruleset) => Promise<void>> {
  const transactor = visit(netns, () => Transactor.open(sys, writeAside));
  cleanup.add(() => transactor.close());
  const netlink = visit(netns, () => Netlink.open(NETLINK_NETFILTER));
  cleanup.add(() => netlink.close());
  const state = { wanted: NO_RULESET, taken: NO_RULESET };
  const source = {
    get ruleset() {
      return state.wanted;
    },
    take() {
      const change = diff(state.taken, state.wanted);
      state.taken = state.wanted;
      return change;
    },
  };
  const table = await PolicyTable.open({ netlink, transactor }, source, GROUP);
  return async (wanted) => {
    state.wanted = wanted;
    await table.sync();
  };
}

/**
 * A veth pair as flatnet makes them: no address is spent on a gateway, and nobody asks who has one.
 * @param mac last byte of both ends' MACs
 */
async function attach(node: Netns, end: Netns, addresses: readonly string[], ifname: string, mac: number) {
  const [host, own] = [`02:00:00:00:01:${hex(mac)}`, `02:00:00:00:02:${hex(mac)}`];
  const peer = ["peer", "name", "eth0", "address", own, "netns", end.name];
  await node.ip("link", "add", ifname, "address", host, "type", "veth", ...peer);
  await node.ip("link", "set", ifname, "up");
  await end.ip("link", "set", "eth0", "up");
  for (const address of addresses) {
    const v6 = address.includes(":");
    const [length, gateway] = v6 ? ["128", "fe80::1"] : ["32", "169.254.1.1"];
    await end.ip("address", "add", `${address}/${length}`, "dev", "eth0", ...(v6 ? ["nodad"] : []));
    await end.ip("neighbour", "replace", gateway, "lladdr", host, "nud", "permanent", "dev", "eth0");
    await end.ip(v6 ? "-6" : "-4", "route", "add", "default", "via", gateway, "dev", "eth0", "onlink");
    await node.ip("neighbour", "replace", address, "lladdr", own, "nud", "permanent", "dev", ifname);
    await node.ip("route", "add", `${address}/${length}`, "dev", ifname);
  }
}

const hex = (byte: number) => byte.toString(16).padStart(2, "0");

/** Forwards, and answers no echo: an answer would make the next packet with its number one of a connection. */
async function prepare(netns: Netns): Promise<void> {
  const settings = [
    "net.ipv4.ip_forward=1",
    "net.ipv6.conf.all.forwarding=1",
    "net.ipv4.icmp_echo_ignore_all=1",
    "net.ipv6.icmp.echo_ignore_all=1",
    "net.ipv4.conf.all.rp_filter=0",
  ];
  await run(inNetns(netns.path, "sysctl", "-qw", ...settings));
}

/** Both places where a pod of that number may be. */
function placesOf(number: number): { node: number; addresses: string[] }[] {
  return [1, 2].map((subnet) => {
    return { node: subnet - 1, addresses: [`10.244.${subnet}.${number + 2}`, `fd00:244:${subnet}::${number + 2}`] };
  });
}

const text = ({ source, destination, protocol, port }: Flow) =>
  `${source} -> ${destination} ${protocol}${port === undefined ? "" : `/${port}`}`;

describe.runIf(canUseKernel())("random clusters and policies", () => {
  const cleanup = new Cleanup();
  const packets = new Packets(cleanup);
  const tables: ((wanted: Ruleset) => Promise<void>)[] = [];

  beforeAll(async () => {
    const [first, second] = [await createNetns("agree", cleanup), await createNetns("agree", cleanup)];
    const nodes = [first, second];
    for (const node of nodes) await prepare(node);
    await joinByCable(
      { netns: first, ifname: "cable", addresses: ["172.18.0.1/24", "fd00:18::1/64"] },
      { netns: second, ifname: "cable", addresses: ["172.18.0.2/24", "fd00:18::2/64"] },
    );
    for (const [i, other] of [second, first].entries()) {
      await other.ip("route", "add", `10.244.${i + 1}.0/24`, "via", `172.18.0.${i + 1}`);
      await other.ip("-6", "route", "add", `fd00:244:${i + 1}::/48`, "via", `fd00:18::${i + 1}`);
    }
    await second.ip("route", "add", "192.0.2.0/24", "via", "172.18.0.1");
    await second.ip("-6", "route", "add", "2001:db8::/32", "via", "fd00:18::1");
    let mac = 0;
    const place = async (node: Netns, addresses: readonly string[]) => {
      const netns = await createNetns("agree", cleanup);
      await prepare(netns);
      await attach(node, netns, addresses, `end${mac}`, mac++);
      await packets.open(netns.path, addresses, NODES[nodes.indexOf(node)]?.addresses ?? []);
    };
    await place(first, OUTSIDE);
    for (let number = 0; number < PODS; number++) {
      for (const { node, addresses } of placesOf(number)) await place(nodes[node] as Netns, addresses);
    }
    for (const [i, node] of nodes.entries()) {
      await packets.open(node.path, NODES[i]?.addresses ?? [], NODES[1 - i]?.addresses ?? []);
      tables.push(await openTable(node, cleanup));
    }
  });

  afterAll(() => cleanup.run());

  test("the documentation, the compiled rulesets and two kernels agree on every flow", async () => {
    const judged = { arrived: 0, denied: 0 };
    const agrees = async (cluster: TestCluster) => {
      const model = new Cluster(cluster);
      for (const [i, { name }] of NODES.entries()) await tables[i]?.(compile(stateOf(cluster, name), SETTINGS));
      // Addresses of pods that have ended are nobody's.
      const pods = new Set(cluster.pods.filter((pod) => !pod.ended).flatMap(({ addresses }) => addresses));
      const gone = new Set(cluster.pods.filter((pod) => pod.ended).flatMap(({ addresses }) => addresses));
      const flows = flowsOf(cluster).filter(
        ({ source, destination }) =>
          (pods.has(source) || pods.has(destination)) && !gone.has(source) && !gone.has(destination),
      );
      const arrived = await packets.arriving(flows);
      judged.arrived += arrived.size;
      judged.denied += flows.length - arrived.size;
      const wrong = flows.flatMap((flow) => {
        const verdicts = {
          documentation: allows(cluster, flow),
          ruleset: model.allows(flow),
          kernel: arrived.has(flow),
        };
        return new Set(Object.values(verdicts)).size === 1 ? [] : [{ flow: text(flow), ...verdicts }];
      });
      expect(wrong).toEqual([]);
    };
    await fc.assert(fc.asyncProperty(clusters, agrees), { numRuns: RUNS });
    // It was about something.
    expect(Math.min(judged.arrived, judged.denied)).toBeGreaterThan(RUNS);
  });
});
