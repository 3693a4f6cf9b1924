// SPDX-License-Identifier: Apache-2.0
//
// flatnetd in a container of a real containerd with the security context, the mounts and the configuration that the
// manifests give it: not privileged, few capabilities, a root file system that is read-only, the runtime's seccomp profile.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { grantedRights } from "../../scripts/manifests/rights.ts";
import { DEPLOY, parseManifests } from "../../scripts/manifests.ts";
import { agentContainer, SERVICE_ACCOUNT_DIR } from "../helpers/agent-container.ts";
import { createFabric, nodeAddresses } from "../helpers/cluster/fabric.ts";
import { type Containerd, startContainerd } from "../helpers/containerd/containerd.ts";
import { REFERENCE_PLUGINS } from "../helpers/containerd/node.ts";
import { Cleanup, run, waitFor } from "../helpers/daemon.ts";
import { type ApiServer, KUBERNETES_SERVICE_ADDRESS, writeServiceAccount } from "../helpers/kube-api/api-server.ts";
import { AGENT_TOKEN, startDouble } from "../helpers/kube-api/double.ts";
import { startRelay } from "../helpers/kube-api/relay.ts";
import { canUseKernel, createNetns, inNetns, type Netns } from "../helpers/netns.ts";
import { PAUSE_IMAGE } from "../helpers/pause/image.ts";

/** The plugin finds the socket where the conflist says it is. The runtime's /run is private. */
const RUN = "/run/flatnet";
const CIDRS = ["10.79.8.0/24", "fd00:79:8::/64"];

/** As kubelet registers it, and the controller gives it its subnets. */
function nodeOf(n: number): object {
  const addresses = nodeAddresses(n).map((address) => ({ type: "InternalIP", address }));
  const podCIDRs = [`10.79.${7 + n}.0/24`, `fd00:79:${7 + n}::/64`];
  const taints = [{ key: "flatnet.dev/agent-not-ready", effect: "NoSchedule" }];
  const spec = { podCIDR: podCIDRs[0], podCIDRs, taints };
  return { metadata: { name: `node-${n}` }, spec, status: { addresses } };
}

describe.runIf(canUseKernel())("the agent in the DaemonSet's container", () => {
  const cleanup = new Cleanup();
  let netns: Netns;
  let containerd: Containerd;
  let directory: string;
  let api: ApiServer;
  let container: string;
  let real: Record<string, string>;

  const inNode = (...argv: string[]) => inNetns(netns.path, ...argv);
  const sysctl = async (name: string) => (await run(inNode("cat", `/proc/sys/net/${name}`))).trim();
  const log = () => readFileSync(join(directory, "log/flatnetd.log"), "utf8");

  beforeAll(async () => {
    netns = await createNetns("container", cleanup);
    // A namespace has its first values from the machine, which may be a router.
    await run(inNode("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0"));
    const fabric = await createFabric(KUBERNETES_SERVICE_ADDRESS, cleanup);
    await fabric.join(netns, nodeAddresses(1));
    const double = await startDouble({ tls: true });
    cleanup.add(() => double.close());
    api = double;
    await startRelay({ netns: fabric.netns, address: KUBERNETES_SERVICE_ADDRESS, port: 443 }, api.url, cleanup);
    for (const n of [1, 2]) await api.admin.create("/api/v1/nodes", nodeOf(n));
    directory = mkdtempSync(join(tmpdir(), "agent-container-"));
    cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
    const cni = { binDir: join(directory, "opt/cni/bin"), confDir: join(directory, "etc/cni/net.d") };
    containerd = await startContainerd(
      { netns, cni, plugins: { loopback: join(REFERENCE_PLUGINS, "loopback") } },
      cleanup,
    );
    container = await startAgent();
    const ready = async () => (await containerd.cri.conditions()).every(({ status }) => status);
    await waitFor(ready).catch((cause: unknown) => {
      throw new Error(`containerd has no network:\n${log()}`, { cause });
    });
  });
  afterAll(async () => {
    await cleanup.run();
  });

  /** As the DaemonSet's but for what a runtime of the test's own has in places of its own. */
  async function startAgent(): Promise<string> {
    const [configMap] = parseManifests(readFileSync(join(DEPLOY, "base/config.yaml"), "utf8"), "config.yaml");
    const text = (configMap as unknown as { data: Record<string, string> }).data["config.yaml"] ?? "";
    mkdirSync(join(directory, "etc/flatnet"), { recursive: true });
    writeFileSync(join(directory, "etc/flatnet/config.yaml"), text);
    writeServiceAccount(join(directory, SERVICE_ACCOUNT_DIR), { ca: api.ca, token: AGENT_TOKEN });
    const namespaces = join(containerd.endpoint, "../state/io.containerd.grpc.v1.cri/netns");
    mkdirSync(namespaces, { recursive: true });
    // On a node everything is mounted so that it is seen in other mount namespaces.
    await containerd.inside("mount", "--bind", namespaces, namespaces);
    await containerd.inside("mount", "--make-shared", namespaces);
    await containerd.inside("mkdir", RUN);
    real = { "/run/netns": namespaces, "/proc/sys/net": "/proc/sys/net", [RUN]: RUN };
    mkdirSync(join(directory, "log"));
    const service = { KUBERNETES_SERVICE_HOST: KUBERNETES_SERVICE_ADDRESS, KUBERNETES_SERVICE_PORT: "443" };
    return await start("flatnetd", "flatnet.yaml", { NODE_NAME: "node-1", ...service });
  }

  /** Starts the container of a manifest in a sandbox of its own. */
  async function start(name: string, manifest: string, env?: Record<string, string>): Promise<string> {
    const asked = agentContainer(manifest, directory, real, env);
    const plain = containerd.sandboxConfig(name);
    const sandboxConfig = {
      ...plain,
      hostname: "",
      logDirectory: join(directory, "log"),
      linux: { ...plain.linux, securityContext: asked.sandbox },
    };
    const sandbox = await containerd.cri.runPodSandbox(sandboxConfig);
    const more = { ...asked.container, logPath: `${name}.log` };
    return await containerd.cri.startContainer(sandbox, name, PAUSE_IMAGE, sandboxConfig, more);
  }

  test("is ready once the runtime has its plugin and its network from it", async () => {
    expect(await containerd.cri.containerState(container)).toBe("CONTAINER_RUNNING");
    const ask = "fetch('http://127.0.0.1:26219/readyz').then(({ status }) => console.log(status))";
    expect(await run(inNode(process.execPath, "-e", ask))).toBe("200\n");
    expect(existsSync(join(directory, "opt/cni/bin/flatnet"))).toBe(true);
    expect(existsSync(join(directory, "etc/cni/net.d/10-flatnet.conflist"))).toBe(true);
  });

  test("has told the cluster so, and asked it for nothing that it has no right to", async () => {
    const ownNode = () => api.admin.get("/api/v1/nodes/node-1");
    await waitFor(async () => JSON.stringify((await ownNode()).spec?.["taints"] ?? []) === "[]");
    await waitFor(async () => JSON.stringify((await ownNode()).status).includes('"NetworkUnavailable"'));
    const rights = grantedRights();
    const asked = api
      .audit()
      .map(({ verb, resource, group }) => `${verb} ${resource}${group === "" ? "" : `.${group}`}`);
    expect(asked).toEqual(expect.arrayContaining(["watch nodes", "patch nodes", "patch nodes/status"]));
    expect(asked.filter((right) => !rights.has(right))).toEqual([]);
  });

  test("has routes to the other node", async () => {
    expect(await run(inNode("ip", "route", "show", "proto", "70"))).toContain("10.79.9.0/24 via 192.0.2.2");
    expect(await run(inNode("ip", "-6", "route", "show", "proto", "70"))).toContain("fd00:79:9::/64 via 2001:db8::2");
  });

  test("is confined as the manifest says", async () => {
    const find = "grep --files-with-matches ^/usr/local/bin/flatnetd /proc/[0-9]*/cmdline";
    const [, pid = ""] = /\/proc\/(\d+)\//.exec(await containerd.inside("sh", "-c", find)) ?? [];
    const status = await containerd.inside("cat", `/proc/${pid}/status`);
    // CAP_NET_BROADCAST, CAP_NET_ADMIN and CAP_SYS_ADMIN of include/uapi/linux/capability.h.
    const mask = [11, 12, 21].reduce((bits, number) => bits | (1 << number), 0);
    expect(status).toContain(`CapEff:\t${mask.toString(16).padStart(16, "0")}`);
    expect(status).toContain(`CapBnd:\t${mask.toString(16).padStart(16, "0")}`);
    expect(status).toMatch(/NoNewPrivs:\t1/);
    // SECCOMP_MODE_FILTER
    expect(status).toMatch(/Seccomp:\t2/);
  });

  test("has made the node a router, though its own /proc/sys is read-only", async () => {
    expect(await sysctl("ipv4/ip_forward")).toBe("1");
    expect(await sysctl("ipv6/conf/all/forwarding")).toBe("1");
    expect(log()).toContain("forwarding switched on");
  });

  test("drops what pods send from foreign addresses", async () => {
    expect(await run(inNode("nft", "list", "tables"))).toContain("flatnet");
  });

  test("gives pods their addresses, and repairs in their namespaces what is taken from them", async () => {
    const pod = await containerd.cri.runPodSandbox(containerd.sandboxConfig("pod"));
    const { addresses, netns: path } = await containerd.cri.podSandboxStatus(pod);
    expect(addresses).toEqual(
      CIDRS.map((cidr) => expect.stringMatching(new RegExp(`^${cidr.split(/\.0\/|::\//)[0]}`))),
    );
    const ip = (...args: string[]) => containerd.inside("nsenter", `--net=${path}`, "--", "ip", ...args);
    expect(await ip("route")).toContain("default via 169.254.1.1");
    await ip("route", "delete", "default");
    await waitFor(async () => (await ip("route")).includes("default via 169.254.1.1"));
    await ip("address", "delete", `${addresses[0]}/32`, "dev", "eth0");
    await waitFor(async () => (await ip("address")).includes(`${addresses[0]}/32`));
    await containerd.cri.stopPodSandbox(pod);
    await containerd.cri.removePodSandbox(pod);
    expect(await run(inNode("ip", "-brief", "link"))).not.toMatch(/^fl/m);
  });

  test("complains of nothing that it may not do", () => {
    expect(
      log()
        .split("\n")
        .filter((line) => /"level":"(error|fatal)"|EPERM|EACCES|EROFS/.test(line)),
    ).toEqual([]);
  });

  test("is taken off the node by the other manifest's container", async () => {
    await containerd.cri.stopContainer(container);
    const uninstall = await start("uninstall", "uninstall.yaml");
    await waitFor(async () => (await containerd.cri.containerState(uninstall)) === "CONTAINER_EXITED");
    expect(readFileSync(join(directory, "log/uninstall.log"), "utf8")).toContain(
      "flatnet is not on this node any more.",
    );
    expect(await sysctl("ipv4/ip_forward")).toBe("0");
    expect(await sysctl("ipv6/conf/all/forwarding")).toBe("0");
    expect(await run(inNode("nft", "list", "tables"))).toBe("");
    const directories = ["var/lib/flatnet", "opt/cni/bin", "etc/cni/net.d"];
    expect(directories.flatMap((name) => readdirSync(join(directory, name)))).toEqual(["loopback"]);
  });
});
