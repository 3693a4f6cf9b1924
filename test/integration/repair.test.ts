// SPDX-License-Identifier: Apache-2.0
//
// What is taken away of a living pod's network comes back, whoever took it: each thing is deleted by iproute2, and then
// CHECK has to find nothing. And what a daemon finds that was down meanwhile.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Cleanup, type Finished, run, startDaemon, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, parseLog } from "../helpers/flatnet-node.ts";
import { canUseKernel, inNetns } from "../helpers/netns.ts";
import { addressesOf, built, type CniResult, createPod, type Pod, resultOf } from "../helpers/plugin.ts";

const POD_CIDRS = ["10.79.1.0/24", "fd00:79:1::/64"];
/** Of the node itself, so that pods have somebody to answer. */
const NODE_ADDRESSES = ["192.0.2.1/32", "fd00:79::1/128"];

/** Connects to where nobody listens: that this is refused has come all the way back. */
async function reach({ netns }: FlatnetNode, address: string): Promise<void> {
  const script = `
    const socket = require("node:net").connect(9, ${JSON.stringify(address)});
    socket.setTimeout(2000, () => process.exit(1));
    socket.on("error", ({ code }) => process.exit(code === "ECONNREFUSED" ? 0 : 2));
  `;
  await run(inNetns(netns.path, process.execPath, "-e", script));
}

interface Attached {
  readonly pod: Pod;
  readonly result: CniResult;
  readonly hostEnd: string;
  readonly v4: string;
  readonly v6: string;
}

/** What is taken away, as a command line of iproute2 in the pod's namespace or the node's. */
type Loss = readonly [title: string, where: "pod" | "node", command: (of: Attached) => string];

const LOSSES: readonly Loss[] = [
  ["the pod's IPv4 address", "pod", ({ v4 }) => `address del ${v4}/32 dev eth0`],
  ["the pod's IPv6 address", "pod", ({ v6 }) => `address del ${v6}/128 dev eth0`],
  ["all addresses of the pod's end", "pod", () => "address flush dev eth0"],
  ["the pod's IPv4 default route", "pod", () => "-4 route del default"],
  ["the pod's IPv6 default route", "pod", () => "-6 route del default"],
  ["the pod's route to its next hop", "pod", () => "route del 169.254.1.1/32"],
  ["a route that the configuration asks for", "pod", () => "route del 198.51.100.0/24"],
  ["the neighbour entry of the pod's next hop", "pod", () => "neigh del 169.254.1.1 dev eth0"],
  ["the neighbour entry of the pod's IPv6 next hop", "pod", () => "neigh del fe80::1 dev eth0"],
  ["the pod's end being up", "pod", () => "link set eth0 down"],
  ["the node's IPv4 route to the pod", "node", ({ v4 }) => `route del ${v4}/32`],
  ["the node's IPv6 route to the pod", "node", ({ v6 }) => `route del ${v6}/128`],
  ["the node's neighbour entry of the pod", "node", ({ v4, hostEnd }) => `neigh del ${v4} dev ${hostEnd}`],
  ["the node's IPv6 neighbour entry of the pod", "node", ({ v6, hostEnd }) => `neigh del ${v6} dev ${hostEnd}`],
  ["the host end being up", "node", ({ hostEnd }) => `link set ${hostEnd} down`],
];

describe.runIf(canUseKernel())("a living attachment", () => {
  const cleanup = new Cleanup();
  const conf = { routes: [{ dst: "198.51.100.0/24", mtu: 1300 }] };
  let node: FlatnetNode;

  beforeAll(async () => {
    node = await createNode("repair", cleanup, { podCidrs: POD_CIDRS });
    for (const address of NODE_ADDRESSES) await node.netns.ip("address", "add", address, "dev", "lo");
    await node.start();
  });

  afterAll(() => cleanup.run());

  async function attach(env: Record<string, string> = {}, on?: Pod): Promise<Attached> {
    const pod = on ?? (await createPod("pod", cleanup));
    const result = resultOf(await node.run("ADD", pod, { env, conf }));
    const [v4 = "", v6 = ""] = addressesOf(result);
    return { pod, result, hostEnd: result.interfaces[0]?.name ?? "", v4, v6 };
  }

  const check = ({ pod, result }: Attached, env: Record<string, string> = {}): Promise<Finished> =>
    node.run("CHECK", pod, { env, conf: { ...conf, prevResult: result } });

  /** Waits until CHECK finds nothing, and says what it found last. */
  async function isRepaired(attached: Attached, env: Record<string, string> = {}): Promise<void> {
    let last = "";
    await waitFor(async () => {
      const { status, stdout } = await check(attached, env);
      last = stdout;
      return status === 0;
    }).catch(() => expect.fail(`CHECK still finds: ${last}`));
  }

  const lose = async (attached: Attached, [, where, command]: Loss) => {
    const args = command(attached).split(" ");
    await (where === "pod" ? attached.pod.netns : node.netns).ip(...args);
  };

  test.for(LOSSES)("gets back %s", async (loss) => {
    const attached = await attach();
    expect(await check(attached)).toMatchObject({ status: 0 });
    await lose(attached, loss);
    expect(await check(attached)).not.toMatchObject({ status: 0 });
    await isRepaired(attached);
    for (const address of [attached.v4, attached.v6]) await reach(node, address);
    expect(node.log().filter(({ level }) => level === "error")).toEqual([]);
  });

  test("gets everything back at once", async () => {
    const attached = await attach();
    for (const loss of LOSSES) await lose(attached, loss).catch(() => {});
    await isRepaired(attached);
  });

  test("gets back what the node has lost of it, where the daemon sees no namespace", async () => {
    const attached = await attach();
    await node.stop();
    // As in a container to which the runtime's directory isn't mounted: it is there, and empty.
    const blind = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /run/netns && exec "$@"', "sh"];
    const daemon = await startDaemon({
      argv: node.netns.command(...blind, built("flatnetd"), ...node.flags()),
      ready: (output) => output.includes('"msg":"serving"'),
    });
    try {
      for (const loss of LOSSES.filter(([, where]) => where === "node")) {
        await lose(attached, loss);
        await isRepaired(attached);
      }
      expect(parseLog(daemon.output()).filter(({ level }) => level === "error")).toEqual([]);
    } finally {
      await daemon.stop();
      await node.start();
    }
  });

  test("gets back what was lost while the daemon was down", async () => {
    const all = await Promise.all(LOSSES.map(() => attach()));
    await node.stop("SIGKILL");
    for (const [i, loss] of LOSSES.entries()) await lose(all[i] as Attached, loss);
    await node.start();
    for (const attached of all) await isRepaired(attached);
  });

  test("gets back the rule and the table of a further interface", async () => {
    const first = await attach();
    const env = { CNI_IFNAME: "net1" };
    const second = await attach(env, first.pod);
    const { netns } = first.pod;
    const [{ priority }] = JSON.parse(await netns.ip("-json", "rule", "show", "from", second.v4));
    await netns.ip("rule", "del", "priority", `${priority}`, "from", second.v4);
    await netns.ip("-6", "route", "flush", "dev", "net1", "table", "all", "proto", "70");
    await isRepaired(second, env);
    await isRepaired(first);
  });

  test("keeps a default route that the pod has chosen itself", async () => {
    const attached = await attach();
    const { netns } = attached.pod;
    await netns.ip("link", "add", "vpn", "type", "veth", "peer", "name", "vpn-peer");
    await netns.ip("link", "set", "vpn", "up");
    await netns.ip("-4", "route", "replace", "default", "dev", "vpn");
    // Something else that goes is repaired, so the daemon has been there.
    await netns.ip("-6", "route", "del", "default");
    await waitFor(async () => (await netns.ip("-6", "route", "show", "default")).includes("fe80::1"));
    expect(await netns.ip("-4", "route", "show", "default")).toContain("dev vpn");
  });

  test("that is deleted stays away, and so does what is left of a pod without a DEL", async () => {
    const [deleted, gone] = [await attach(), await attach()];
    await lose(deleted, LOSSES[0] as Loss);
    expect(await node.del(deleted.pod)).toMatchObject({ status: 0 });
    await node.netns.ip("link", "del", gone.hostEnd);
    const other = await attach();
    await lose(other, LOSSES[0] as Loss);
    await isRepaired(other);
    const { links, routes } = await node.traces();
    expect(links).not.toContain(deleted.hostEnd);
    expect(links).not.toContain(gone.hostEnd);
    expect(routes).not.toContain(deleted.v4);
    expect(routes).not.toContain(gone.v4);
  });
});
