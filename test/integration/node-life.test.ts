// SPDX-License-Identifier: Apache-2.0
//
// The built daemon's life on a node: the plugin and the conflist in their places, health, and one daemon after the other while
// pods come, go and talk.
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { startContainerd } from "../helpers/containerd/containerd.ts";
import { REFERENCE_PLUGINS, runSandbox } from "../helpers/containerd/node.ts";
import { Cleanup, runToEnd, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { httpGet } from "../helpers/http-get.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { addressesOf, built, cniEnvironment, createPod, type Pod, resultOf, runPlugin } from "../helpers/plugin.ts";
import { startStream } from "../helpers/stream.ts";

const POD_CIDRS = ["10.81.1.0/24", "fd00:81:1::/64"];
const HEALTH = "127.0.0.1:26219";
const CONFLIST = "10-flatnet.conflist";

interface LivingNode {
  readonly node: FlatnetNode;
  readonly binDir: string;
  readonly confDir: string;
  readonly programs: { flatnet: string; flatnetd: string };
}

/** A node whose daemon installs the plugin and writes the conflist. */
async function createLivingNode(cleanup: Cleanup, ...more: string[]): Promise<LivingNode> {
  const programs = { flatnet: built("flatnet"), flatnetd: built("flatnetd") };
  const flags: string[] = ["--health-address", HEALTH, ...more];
  const node = await createNode("life", cleanup, { podCidrs: POD_CIDRS, flags, programs, peers: "nodes: []\n" });
  const [binDir, confDir] = [join(node.directory, "bin"), join(node.directory, "net.d")];
  flags.push("--cni-bin-dir", binDir, "--cni-conf-dir", confDir);
  return { node, binDir, confDir, programs };
}

const hasConflist = ({ confDir }: LivingNode) => waitFor(() => existsSync(join(confDir, CONFLIST)));

/** What a runtime hands to the plugin, in the newest version of the list. Throws where a runtime would have none. */
function requestConf({ confDir }: LivingNode): string {
  const { name, cniVersions, plugins } = JSON.parse(readFileSync(join(confDir, CONFLIST), "utf8"));
  return JSON.stringify({ ...plugins[0], name, cniVersion: cniVersions.at(-1) });
}

const get = ({ netns }: FlatnetNode, path: string) => httpGet(netns, HEALTH, path);

/** The programs of the next release: its plugin differs in a byte that nobody reads (e_ident's padding, elf(5)). */
function nextRelease(directory: string): { flatnet: string; flatnetd: string } {
  mkdirSync(directory);
  const [flatnet, flatnetd] = [join(directory, "flatnet"), join(directory, "flatnetd")];
  const bytes = readFileSync(built("flatnet"));
  bytes[15] = 1;
  writeFileSync(flatnet, bytes, { mode: 0o755 });
  try {
    linkSync(built("flatnetd"), flatnetd);
  } catch {
    // Another file system.
    copyFileSync(built("flatnetd"), flatnetd);
  }
  return { flatnet, flatnetd };
}

describe.runIf(canUseKernel())("a node's daemon", () => {
  test("installs the plugin, writes the conflist, and says in each check whether it is ready", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const life = await createLivingNode(cleanup);
    await life.node.start();
    await hasConflist(life);
    await waitFor(async () => (await get(life.node, "/readyz")).code === 200);
    expect(await get(life.node, "/healthz")).toEqual({
      code: 200,
      body: "[+]api ok\n[+]database ok\n[+]routes ok\n[+]plugin ok\n[+]conflist ok\nreadyz check passed\n",
    });
    expect(await get(life.node, "/livez")).toEqual({
      code: 200,
      body: "[+]loops ok\n[+]api ok\n[+]database ok\nlivez check passed\n",
    });
    expect(readdirSync(life.binDir).sort()).toEqual(["flatnet", "flatnet-ipam"]);
    expect(readdirSync(life.confDir)).toEqual([CONFLIST]);
    const pod = await createPod("pod", cleanup);
    const plugin = join(life.binDir, "flatnet");
    resultOf(await runPlugin(life.node.netns, cniEnvironment("ADD", pod), requestConf(life), plugin));
    expect((await runPlugin(life.node.netns, cniEnvironment("DEL", pod), requestConf(life), plugin)).status).toBe(0);
  });

  test("whose routes have never been in order writes no conflist, isn't ready, and lives", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const life = await createLivingNode(cleanup);
    await life.node.start();
    await hasConflist(life);
    await life.node.stop();
    rmSync(join(life.confDir, CONFLIST));
    // The only way to the one peer there is leads nowhere.
    writeFileSync(life.node.peersFile, "nodes: [{ name: other, addresses: [192.0.2.9], podCIDRs: [10.81.2.0/24] }]\n");
    await life.node.start();
    await waitFor(async () => (await get(life.node, "/readyz")).body.includes("[-]conflist: the routes"));
    expect((await get(life.node, "/readyz")).code).toBe(503);
    expect((await get(life.node, "/livez")).code).toBe(200);
    expect(existsSync(join(life.confDir, CONFLIST))).toBe(false);
  });

  test("whose socket is taken away doesn't live", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const life = await createLivingNode(cleanup);
    await life.node.start();
    rmSync(life.node.socket);
    const { code, body } = await get(life.node, "/livez");
    expect([code, body]).toEqual([503, expect.stringContaining("[-]api: ")]);
  });

  test("is replaced, with its plugin, under a stream of ADDs and DELs, and nobody notices", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const life = await createLivingNode(cleanup);
    const { node, programs, binDir, confDir } = life;
    await node.netns.ip("address", "add", "192.0.2.1/32", "dev", "lo");
    const releases = [{ ...programs }, nextRelease(join(node.directory, "next"))];
    await node.start();
    await hasConflist(life);
    const plugin = join(binDir, "flatnet");

    const still = await createPod("still", cleanup);
    const [address = ""] = addressesOf(
      resultOf(await runPlugin(node.netns, cniEnvironment("ADD", still), requestConf(life), plugin)),
    );
    const endStream = await startStream(node.netns, still.netns, address, 7000, cleanup);

    let rolling = true;
    const failures: unknown[] = [];
    let verbs = 0;
    const until = async (work: () => Promise<unknown>) => {
      while (rolling) {
        try {
          await work();
        } catch (error) {
          failures.push(error);
        }
      }
    };
    const comeAndGo = (pod: Pod) => async () => {
      for (const verb of ["ADD", "DEL"]) {
        const { status, stdout, stderr } = await runPlugin(
          node.netns,
          cniEnvironment(verb, pod),
          requestConf(life),
          plugin,
        );
        if (status !== 0) throw new Error(`${verb}: ${stdout}${stderr}`);
        verbs++;
      }
    };
    const asRuntimesDo = async () => {
      requestConf(life);
      const env = { CNI_COMMAND: "VERSION" };
      for (const name of ["flatnet", "flatnet-ipam"]) {
        const { status, stderr } = await runToEnd([join(binDir, name)], { env, input: '{"cniVersion":"1.1.0"}' });
        if (status !== 0) throw new Error(`VERSION of ${name}: ${status} ${stderr}`);
      }
    };
    const pods = [await createPod("one", cleanup), await createPod("two", cleanup)];
    const busy = [...pods.map((pod) => until(comeAndGo(pod))), until(asRuntimesDo)];

    for (const n of [1, 0, 1]) {
      const release = releases[n] as (typeof releases)[0];
      expect(await node.stop()).toBe(0);
      Object.assign(programs, release);
      await node.start();
      const wanted = readFileSync(release.flatnet);
      await waitFor(() => readFileSync(plugin).equals(wanted), { timeoutMs: 30_000 });
      const before = verbs;
      await waitFor(() => verbs > before + 4, { timeoutMs: 30_000 });
    }
    rolling = false;
    await Promise.all(busy);
    expect(failures).toEqual([]);
    const { sent, ...rest } = await endStream();
    expect(rest).toEqual({ lost: [], errors: [] });
    expect(sent).toBeGreaterThan(0);
    expect(readdirSync(binDir).sort()).toEqual(["flatnet", "flatnet-ipam"]);
    expect(readdirSync(confDir)).toEqual([CONFLIST]);
    // Nothing of those that came and went.
    expect((await node.traces()).records).toHaveLength(2);
  });

  test("can leave, and containerd deletes the pods that are left", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const life = await createLivingNode(cleanup);
    const { node, binDir, confDir } = life;
    await node.start();
    await hasConflist(life);
    const conflist = JSON.parse(readFileSync(join(confDir, CONFLIST), "utf8"));
    const plugins = { flatnet: join(binDir, "flatnet"), loopback: join(REFERENCE_PLUGINS, "loopback") };
    const containerd = await startContainerd({ netns: node.netns, conflist, plugins }, cleanup);
    const { id } = await runSandbox(containerd, "left-over");
    await node.stop();
    const uninstall = node.netns.command(built("flatnetctl"), "uninstall", "--state-dir", node.stateDir, "--force");
    const { stdout } = await runToEnd(uninstall);
    expect(stdout).toContain("pods: 1 pod loses its network: default/left-over");
    expect(stdout).toContain(`${join(binDir, "flatnet")} stays for now`);
    expect(existsSync(node.stateDir)).toBe(false);
    // What fails is not removed.
    await containerd.cri.stopPodSandbox(id);
    await containerd.cri.removePodSandbox(id);
  });

  test("writes a conflist that containerd takes, and pods come and go by it", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const life = await createLivingNode(cleanup);
    await life.node.start();
    await hasConflist(life);
    const conflist = JSON.parse(readFileSync(join(life.confDir, CONFLIST), "utf8"));
    const plugins = { flatnet: join(life.binDir, "flatnet"), loopback: join(REFERENCE_PLUGINS, "loopback") };
    const containerd = await startContainerd({ netns: life.node.netns, conflist, plugins }, cleanup);
    const { id, addresses } = await runSandbox(containerd, "pod");
    expect((await life.node.traces()).records).toEqual([...addresses].sort());
    await containerd.cri.stopPodSandbox(id);
    await containerd.cri.removePodSandbox(id);
    expect((await life.node.traces()).records).toEqual([]);
  });
});
