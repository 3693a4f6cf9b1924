// SPDX-License-Identifier: Apache-2.0
//
// The verbs beside ADD and DEL, what a runtime may ask for in an ADD, and other plugins before and behind ours: the built
// programs in real namespaces, looked at with iproute2.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { credentials, makeGenericClientConstructor } from "@grpc/grpc-js";
import { afterAll, afterEach, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import type { AllocateRequest, AllocateResponse } from "../../src/gen/flatnet/ipam/v1/ipam.ts";
import { toServiceDefinition } from "../../src/ipam/server.ts";
import { type CallOptions, Chain, hasCommand, type PluginEntry } from "../helpers/chain.ts";
import { Cleanup, type Finished, run, runToEnd, startDaemon, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel, inNetns, type Netns } from "../helpers/netns.ts";
import {
  addressesOf,
  built,
  type CniResult,
  createPod,
  failureOf,
  type Pod,
  resultOf,
  runPlugin,
} from "../helpers/plugin.ts";

const V4 = "10.78.1.0/24";
const V6 = "fd00:78:1::/64";
const FAMILIES = { v4: [V4], v6: [V6], dual: [V4, V6] } as const;
const CHECKED_VERSIONS = ["0.4.0", "1.0.0", "1.1.0"] as const;
const ALL_VERSIONS = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", ...CHECKED_VERSIONS] as const;
const QUIET = { status: 0, stdout: "" };
const SILENCE: Finished = { ...QUIET, stderr: "" };

/** Makes a pod for the rest of the test. */
async function newPod(): Promise<Pod> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  return createPod("pod", cleanup);
}

const shell = (netns: Netns, script: string) => run(inNetns(netns.path, "sh", "-ec", script));

/** Writes a sysctl of a namespace. */
const setSysctl = (netns: Netns, path: string, value: string) => shell(netns, `echo ${value} > /proc/sys/net/${path}`);

/** A port where nobody listens: the refusal has come all the way there and back. */
async function reach(from: Netns, address: string): Promise<void> {
  const command = inNetns(from.path, "bash", "-c", `exec 3<>/dev/tcp/${address}/9`);
  expect((await runToEnd(command, { timeoutMs: 20_000 })).stderr).toContain("Connection refused");
}

/** A node whose daemon runs, for the tests of a group, each of which has to leave it without a trace. */
function useNode(label: string, podCidrs: readonly string[]): () => FlatnetNode {
  const cleanup = new Cleanup();
  let node: FlatnetNode | undefined;
  beforeAll(async () => {
    // What a test changes behind ADD's back stays as it is.
    node = await createNode(label, cleanup, { podCidrs, flags: ["--repair", "false"] });
    await node.start();
  });
  afterEach(async () => {
    const traces = await (node as FlatnetNode).traces();
    await (node as FlatnetNode).delAll();
    expect(traces).toEqual(NO_TRACES);
  });
  afterAll(() => cleanup.run());
  return () => node as FlatnetNode;
}

/** A pod that was added, and what the runtime knows of it. */
interface Added {
  readonly pod: Pod;
  readonly result: CniResult;
  /** Name of the host end. */
  readonly host: string;
  readonly addresses: readonly string[];
}

async function added(node: FlatnetNode, conf: object = {}): Promise<Added> {
  const pod = await newPod();
  const result = resultOf(await node.add(pod, conf));
  return { pod, result, host: result.interfaces[0]?.name ?? "", addresses: addressesOf(result) };
}

const check = (node: FlatnetNode, { pod, result }: Added, conf: object = {}) =>
  node.run("CHECK", pod, { conf: { prevResult: result, ...conf } });

/** The differences that CHECK told, one each. */
function differencesOf(finished: Finished): string[] {
  const failure = failureOf(finished);
  expect(failure).toMatchObject({ code: 102, msg: "the attachment is not as ADD made it" });
  return (failure.details ?? "").split("; ");
}

describe.runIf(canUseKernel()).each(Object.entries(FAMILIES))("CHECK on a node with %s subnets", (_name, podCidrs) => {
  const node = useNode("check", podCidrs);

  test.each(CHECKED_VERSIONS)("is silent after an ADD of %s", async (cniVersion) => {
    const it = await added(node(), { cniVersion });
    expect(await check(node(), it, { cniVersion })).toEqual(SILENCE);
    // Again, since it must have changed nothing.
    expect(await check(node(), it, { cniVersion })).toEqual(SILENCE);
    expect(await node().del(it.pod, { cniVersion, prevResult: it.result })).toEqual(SILENCE);
  });
});

describe.runIf(canUseKernel())("CHECK", () => {
  const node = useNode("check", [V4, V6]);

  /** What is done behind ADD's back, and what CHECK has to say of it; more may follow from it. */
  const changes: [what: string, change: (it: Added, node: Netns) => Promise<unknown>, told: (it: Added) => string[]][] =
    [
      [
        "the host end set down",
        ({ host }, netns) => netns.ip("link", "set", host, "down"),
        ({ host }) => [`${host} is down`],
      ],
      ["the pod's end set down", ({ pod }) => pod.netns.ip("link", "set", "eth0", "down"), () => ["eth0 is down"]],
      [
        "the link deleted",
        ({ host }, netns) => netns.ip("link", "delete", host),
        ({ host }) => [`there is no ${host} on the node`, "there is no eth0 in the pod"],
      ],
      [
        "the pod's end renamed",
        ({ pod }) => shell(pod.netns, "ip link set eth0 down; ip link set eth0 name eth9; ip link set eth9 up"),
        () => ["there is no eth0 in the pod"],
      ],
      [
        "the pod's end replaced by another link",
        ({ pod }) =>
          shell(
            pod.netns,
            "ip link set eth0 down; ip link set eth0 name eth9; ip link add eth0 type veth peer name eth8; ip link set eth0 up",
          ),
        ({ host }) => [`${host} is not the other end of eth0`],
      ],
      [
        "the pod's IPv4 address removed",
        ({ pod, addresses }) => pod.netns.ip("address", "delete", `${addresses[0]}/32`, "dev", "eth0"),
        ({ addresses }) => [`eth0 has no address ${addresses[0]}`],
      ],
      [
        "the pod's IPv6 address removed",
        ({ pod, addresses }) => pod.netns.ip("address", "delete", `${addresses[1]}/128`, "dev", "eth0"),
        ({ addresses }) => [`eth0 has no address ${addresses[1]}`],
      ],
      [
        "the pod's address moved to another link",
        ({ pod, addresses }) =>
          shell(
            pod.netns,
            `ip address delete ${addresses[0]}/32 dev eth0; ip link add other type veth peer name other2; ip address add ${addresses[0]}/32 dev other`,
          ),
        ({ addresses }) => [`eth0 has no address ${addresses[0]}`],
      ],
      [
        "the pod's IPv4 default route removed",
        ({ pod }) => pod.netns.ip("-4", "route", "delete", "default"),
        () => ["the pod has no route default via 169.254.1.1"],
      ],
      [
        "the pod's IPv6 default route removed",
        ({ pod }) => pod.netns.ip("-6", "route", "delete", "default"),
        () => ["the pod has no route default via fe80::1"],
      ],
      [
        "the pod's default route led elsewhere",
        ({ pod }) =>
          shell(
            pod.netns,
            "ip link add other type veth peer name other2; ip link set other up; ip address add 192.0.2.1/24 dev other; ip route replace default via 192.0.2.2",
          ),
        () => ["the pod has no route default via 169.254.1.1"],
      ],
      [
        "the pod's route to its next hop removed",
        ({ pod }) => pod.netns.ip("-4", "route", "delete", "169.254.1.1"),
        () => ["the pod has no route 169.254.1.1/32"],
      ],
      [
        "the pod's neighbours removed",
        ({ pod }) => shell(pod.netns, "ip neighbour delete 169.254.1.1 dev eth0; ip neighbour delete fe80::1 dev eth0"),
        () => [
          "eth0 has no permanent neighbour entry for 169.254.1.1",
          "eth0 has no permanent neighbour entry for fe80::1",
        ],
      ],
      [
        "the pod's neighbour changed",
        ({ pod }) =>
          pod.netns.ip(
            "neighbour",
            "replace",
            "169.254.1.1",
            "lladdr",
            "06:00:00:00:00:01",
            "dev",
            "eth0",
            "nud",
            "permanent",
          ),
        ({ result }) => [
          `eth0 has 06:00:00:00:00:01 for neighbour 169.254.1.1, but the other end is ${result.interfaces[0]?.mac}`,
        ],
      ],
      [
        "the pod's MAC changed",
        ({ pod }) => pod.netns.ip("link", "set", "eth0", "address", "02:00:00:00:00:01"),
        ({ host, addresses, result }) => [
          `${host} has ${result.interfaces[1]?.mac} for neighbour ${addresses[0]}, but the other end is 02:00:00:00:00:01`,
        ],
      ],
      [
        "the node's neighbours removed",
        ({ host, addresses }, netns) =>
          shell(
            netns,
            `ip neighbour delete ${addresses[0]} dev ${host}; ip neighbour delete ${addresses[1]} dev ${host}`,
          ),
        ({ host, addresses }) => addresses.map((address) => `${host} has no permanent neighbour entry for ${address}`),
      ],
      [
        "the node's routes removed",
        ({ addresses }, netns) => shell(netns, `ip route delete ${addresses[0]}; ip -6 route delete ${addresses[1]}`),
        ({ host, addresses }) =>
          addresses.map((address) => `the node's route to ${address} does not lead to ${host}: there is none`),
      ],
      [
        "the node's route led to another link",
        async ({ addresses }, netns) => {
          onTestFinished(() => netns.ip("link", "delete", "other").then(() => {}));
          await shell(
            netns,
            `ip link add other type veth peer name other2; ip link set other up; ip route replace ${addresses[0]}/32 dev other`,
          );
        },
        ({ host, addresses }) => [
          `the node's route to ${addresses[0]} does not lead to ${host}: it is ${addresses[0]}/32`,
        ],
      ],
      ...["blackhole", "prohibit", "unreachable", "throw"].map((kind): (typeof changes)[number] => [
        `the node's route made ${kind}`,
        async ({ addresses }, netns) => {
          onTestFinished(() =>
            shell(netns, `ip route delete ${kind} ${addresses[0]}; ip -6 route delete ${kind} ${addresses[1]}`).then(
              () => {},
            ),
          );
          await shell(
            netns,
            `ip route replace ${kind} ${addresses[0]}; ip -6 route delete ${addresses[1]}; ip -6 route add ${kind} ${addresses[1]}`,
          );
        },
        ({ host, addresses }) =>
          addresses.map((address) => `the node's route to ${address} does not lead to ${host}: there is none`),
      ]),
      [
        "the host end's group changed",
        ({ host }, netns) => netns.ip("link", "set", host, "group", "7"),
        ({ host }) => [`${host} is in group 7, not 26220: no rule applies to it`],
      ],
      [
        "IPv6 switched off in the pod",
        ({ pod }) => setSysctl(pod.netns, "ipv6/conf/eth0/disable_ipv6", "1"),
        ({ addresses }) => [
          "sysctl net.ipv6.conf.eth0.disable_ipv6 is 1, not 0",
          `eth0 has no address ${addresses[1]}`,
        ],
      ],
      [
        "the record released",
        ({ pod }) => runIpam(node(), "DEL", pod),
        () => ["the daemon has no record of this attachment"],
      ],
    ];

  test.each(changes)("tells of %s", async (_what, change, told) => {
    const it = await added(node());
    await change(it, node().netns);
    const differences = differencesOf(await check(node(), it));
    expect(differences).toEqual(expect.arrayContaining(told(it)));
    expect(new Set(differences).size).toBe(differences.length);
    expect(await node().del(it.pod)).toEqual(SILENCE);
  });

  test("tells of all that differs at once", async () => {
    const it = await added(node());
    await node().netns.ip("link", "set", it.host, "group", "7");
    await node().netns.ip("neighbour", "delete", it.addresses[0] ?? "", "dev", it.host);
    await it.pod.netns.ip("-6", "route", "delete", "default");
    await runIpam(node(), "DEL", it.pod);
    expect(differencesOf(await check(node(), it)).sort()).toEqual(
      [
        "the daemon has no record of this attachment",
        `${it.host} is in group 7, not 26220: no rule applies to it`,
        `${it.host} has no permanent neighbour entry for ${it.addresses[0]}`,
        "the pod has no route default via fe80::1",
      ].sort(),
    );
    expect(await node().del(it.pod)).toEqual(SILENCE);
  });

  test("tells of a limit that is gone, and of one that is another", async () => {
    const runtimeConfig = { bandwidth: { ingressRate: 8_000_000, egressRate: 16_000_000 } };
    const it = await added(node(), { runtimeConfig });
    expect(await check(node(), it, { runtimeConfig })).toEqual(SILENCE);
    await run(inNetns(node().netns.path, "tc", "qdisc", "delete", "dev", it.host, "root"));
    await run(
      inNetns(it.pod.netns.path, ..."tc qdisc replace dev eth0 root tbf rate 1mbit burst 32kb latency 25ms".split(" ")),
    );
    const differences = differencesOf(await check(node(), it, { runtimeConfig }));
    expect(differences).toHaveLength(2);
    expect(differences[0]).toContain(`ingress limit on ${it.host}`);
    expect(differences[1]).toContain("egress limit on eth0: the rate is 1000000 bits a second, not 16000000");
    await node().del(it.pod);
  });

  test.each(CHECKED_VERSIONS)(
    "knows a burst below one frame in %s, whose result may not tell the MTU",
    async (cniVersion) => {
      const conf = { cniVersion, runtimeConfig: { bandwidth: { ingressRate: 8_000_000, ingressBurst: 800 } } };
      const it = await added(node(), conf);
      expect(await check(node(), it, conf)).toEqual(SILENCE);
      await node().del(it.pod);
    },
  );

  test("tells of a sysctl that is another, whatever white space it was written with", async () => {
    const conf = {
      sysctls: { "net.ipv4.ip_unprivileged_port_start": "80", "net.ipv4.ip_local_port_range": " 20000   30000 " },
    };
    const it = await added(node(), conf);
    expect(await check(node(), it, conf)).toEqual(SILENCE);
    await setSysctl(it.pod.netns, "ipv4/ip_unprivileged_port_start", "81");
    expect(differencesOf(await check(node(), it, conf))).toEqual([
      "sysctl net.ipv4.ip_unprivileged_port_start is 81, not 80",
    ]);
    await node().del(it.pod);
  });

  test("tells of a port that is not the pod's, in whatever form its address is written", async () => {
    const portMappings = [
      { hostPort: 18_080, containerPort: 80, protocol: "TCP", hostIP: "::ffff:192.0.2.1" },
      { hostPort: 18_080, containerPort: 80, protocol: "udp", hostIP: "" },
      { hostPort: 18_080, containerPort: 80, protocol: "udp" },
      { hostPort: 0, containerPort: 81 },
    ];
    const it = await added(node(), { runtimeConfig: { portMappings } });
    expect(await check(node(), it, { runtimeConfig: { portMappings } })).toEqual(SILENCE);
    const more = [...portMappings, { hostPort: 18_081, containerPort: 81 }];
    expect(differencesOf(await check(node(), it, { runtimeConfig: { portMappings: more } }))).toEqual([
      "the daemon has no port mapping *:18081/tcp to 81",
    ]);
    await node().del(it.pod);
  });

  test("lets others add what is theirs: addresses, routes, an MTU, a qdisc, an alias", async () => {
    const it = await added(node());
    await shell(
      it.pod.netns,
      `ip link set eth0 mtu 1400; ip address add 192.0.2.7/32 dev eth0; ip route add 198.51.100.0/24 via 169.254.1.1
       ip link add other type veth peer name other2; ip link set other up; tc qdisc add dev eth0 root tbf rate 1gbit burst 1mb latency 10ms`,
    );
    await node().netns.ip("link", "set", it.host, "mtu", "1400", "alias", "somebody's");
    expect(await check(node(), it)).toEqual(SILENCE);
    await node().del(it.pod);
  });

  test("tells of a result that is not this attachment's", async () => {
    const it = await added(node());
    const ips = it.result.ips.map((ip) => ({ ...ip, address: ip.address.replace(/\d+\//, "77/") }));
    const foreign = { ...it.result, interfaces: [], ips };
    const differences = differencesOf(await check(node(), it, { prevResult: foreign }));
    expect(differences).toEqual([
      `prevResult has no interface eth0 in ${it.pod.netns.path}`,
      ...it.addresses.map((address) => `the daemon has ${address} for this attachment, and prevResult does not`),
    ]);
    await node().del(it.pod);
  });

  test("of a pod that was never added tells that there is no record", async () => {
    const pod = await newPod();
    const differences = differencesOf(
      await node().run("CHECK", pod, { conf: { prevResult: { cniVersion: "1.1.0" } } }),
    );
    expect(differences).toContain("the daemon has no record of this attachment");
  });

  test("without prevResult is refused with code 7", async () => {
    const it = await added(node());
    for (const prevResult of [undefined, null]) {
      const failure = failureOf(await check(node(), it, { prevResult }));
      expect(failure).toMatchObject({ code: 7, details: "prevResult is missing, and CHECK needs it" });
    }
    await node().del(it.pod);
  });

  test.each(["0.1.0", "0.2.0", "0.3.0", "0.3.1"])("in %s is refused with code 1", async (cniVersion) => {
    const failure = failureOf(await node().run("CHECK", await newPod(), { conf: { cniVersion, prevResult: {} } }));
    expect(failure).toMatchObject({ cniVersion, code: 1, details: expect.stringContaining("CHECK") });
  });

  test("while the daemon is away is code 11, and no difference", async () => {
    const it = await added(node());
    await node().stop();
    const failure = failureOf(await check(node(), it, { connectWaitMs: 50 }));
    await node().start();
    expect(failure).toMatchObject({ code: 11 });
    expect(failure.details).toContain(node().socket);
    expect(await check(node(), it)).toEqual(SILENCE);
    await node().del(it.pod);
  });
});

/** `flatnet-ipam` by itself on the attachment of a pod, in another network if `more` says so. */
function runIpam(node: FlatnetNode, verb: string, pod: Pod, more: object = {}): Promise<Finished> {
  const { socket, journalDir } = node;
  const env = {
    CNI_COMMAND: verb,
    CNI_CONTAINERID: pod.containerId,
    CNI_NETNS: pod.netns.path,
    CNI_IFNAME: "eth0",
  };
  const conf = {
    cniVersion: "1.1.0",
    name: "tests",
    type: "bridge",
    ipam: { type: "flatnet-ipam", socket, journalDir },
  };
  return runToEnd(inNetns(node.netns.path, built("flatnet-ipam")), {
    env,
    input: JSON.stringify({ ...conf, ...more }),
  });
}

/** Asks the daemon for addresses as another program would. */
function allocate(node: FlatnetNode, request: Partial<AllocateRequest>): Promise<AllocateResponse> {
  const Client = makeGenericClientConstructor(toServiceDefinition(), "IpamService");
  const client = new Client(`unix:${node.socket}`, credentials.createInsecure());
  const call = client["allocate"] as unknown as (
    request: AllocateRequest,
    done: (error: Error | null, response: AllocateResponse) => void,
  ) => void;
  return new Promise<AllocateResponse>((resolve, reject) => {
    call.call(
      client,
      {
        attachment: undefined,
        pod: undefined,
        netns: "",
        hostIfname: "",
        requestedAddresses: [],
        portMappings: [],
        withGateway: false,
        aliases: [],
        podEnd: undefined,
        pool: "",
        sticky: undefined,
        ...request,
      },
      (error, response) => (error ? reject(error) : resolve(response)),
    );
  }).finally(() => client.close());
}

describe.runIf(canUseKernel())("GC", () => {
  const node = useNode("gc", [V4, V6]);
  const gc = (conf: object) =>
    runPlugin(node().netns, { CNI_COMMAND: "GC", CNI_PATH: "/opt/cni/bin" }, node().conf(conf));
  const key = ({ pod }: Added) => ({ containerID: pod.containerId, ifname: "eth0" });

  test.each(["cni.dev/valid-attachments", "cni.dev/attachments"])(
    "by %s keeps what is listed and frees the rest, links and addresses, without a word",
    async (list) => {
      const [kept, ...gone] = [await added(node()), await added(node()), await added(node())] as const;
      expect(await gc({ [list]: [key(kept)] })).toEqual(SILENCE);
      const traces = await node().traces();
      expect(traces).toEqual({
        links: [kept.host],
        routes: [...kept.addresses].sort(),
        records: [...kept.addresses].sort(),
        journal: [],
      });
      expect(await check(node(), kept)).toEqual(SILENCE);
      for (const { pod } of gone) expect(await pod.netns.ip("-br", "link", "show")).not.toContain("eth0");
      for (const { pod } of [kept, ...gone]) expect(await node().del(pod)).toEqual(SILENCE);
    },
  );

  test("prefers the newer list where both are", async () => {
    const it = await added(node());
    expect(await gc({ "cni.dev/valid-attachments": [key(it)], "cni.dev/attachments": [] })).toEqual(SILENCE);
    expect((await node().traces()).links).toEqual([it.host]);
    await node().del(it.pod);
  });

  test("tells one interface of a container from another", async () => {
    const pod = await newPod();
    const first = resultOf(await node().add(pod));
    const routes = [{ dst: "192.0.2.0/24" }];
    await pod.netns.ip("route", "flush", "all");
    await pod.netns.ip("-6", "route", "delete", "default");
    resultOf(await node().run("ADD", pod, { env: { CNI_IFNAME: "net1" }, conf: { routes } }));
    expect(await gc({ "cni.dev/valid-attachments": [{ containerID: pod.containerId, ifname: "eth0" }] })).toEqual(
      SILENCE,
    );
    expect((await node().traces()).links).toEqual([first.interfaces[0]?.name]);
    await node().del(pod);
  });

  test("leaves other networks alone", async () => {
    const other = await added(node(), { name: "other" });
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
    expect((await node().traces()).links).toEqual([other.host]);
    expect(await check(node(), other, { name: "other" })).toEqual(SILENCE);
    await node().del(other.pod, { name: "other" });
  });

  test("with an empty list frees all, and twice is as good as once", async () => {
    await added(node());
    await added(node());
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
    expect(await node().traces()).toEqual(NO_TRACES);
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
  });

  test("frees what has lost its link and its namespace already", async () => {
    const it = await added(node());
    await node().netns.ip("link", "delete", it.host);
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
    expect(await node().traces()).toEqual(NO_TRACES);
  });

  test("frees more links than go in one request", async () => {
    await Promise.all(Array.from({ length: 70 }, () => added(node())));
    expect((await node().traces()).links).toHaveLength(70);
    expect(await gc({ "cni.dev/valid-attachments": [] })).toEqual(SILENCE);
    expect(await node().traces()).toEqual(NO_TRACES);
  });

  test("goes on after a link that can't be deleted, names it, and keeps its address", async () => {
    const gone = [await added(node()), await added(node())];
    // A link that is a namespace's own can't be deleted.
    const stuck = { network: "tests", containerId: "stuck", ifname: "eth0" };
    const { addresses } = await allocate(node(), { attachment: stuck, netns: "/run/netns/none", hostIfname: "lo" });
    const failure = failureOf(await gc({ "cni.dev/valid-attachments": [] }));
    expect(failure).toMatchObject({ code: 100, msg: "1 of 3 attachments could not be removed" });
    expect(failure.details).toContain("stuck/eth0");
    expect(failure.details).toContain("delete link lo: ");
    expect(await node().traces()).toEqual({ ...NO_TRACES, records: [...addresses].sort() });
    for (const { pod } of gone) expect(await pod.netns.ip("-br", "link", "show")).not.toContain("eth0");
    expect(await runIpam(node(), "DEL", { containerId: "stuck", netns: node().netns })).toEqual(SILENCE);
  });

  test.each([
    ["a missing list", {}],
    ["null", { "cni.dev/valid-attachments": null }],
    ["an object", { "cni.dev/valid-attachments": {} }],
    ["an entry without ifname", { "cni.dev/valid-attachments": [{ containerID: "c" }] }],
    ["an entry without containerID", { "cni.dev/attachments": [{ ifname: "eth0" }] }],
    ["an entry that is no object", { "cni.dev/valid-attachments": ["c/eth0"] }],
  ])("with %s is refused with code 7 and frees nothing", async (_what, conf) => {
    const it = await added(node());
    const failure = failureOf(await gc(conf));
    expect(failure).toMatchObject({ cniVersion: "1.1.0", code: 7 });
    expect(failure.details).toContain("cni.dev/");
    expect((await node().traces()).links).toEqual([it.host]);
    await node().del(it.pod);
  });

  test.each(["0.1.0", "0.3.1", "0.4.0", "1.0.0"])("in %s is refused with code 1", async (cniVersion) => {
    const failure = failureOf(await gc({ cniVersion, "cni.dev/valid-attachments": [] }));
    expect(failure).toMatchObject({ cniVersion, code: 1, details: expect.stringContaining("GC") });
  });

  test("while the daemon is away is code 11 and removes nothing", async () => {
    const it = await added(node());
    await node().stop();
    const failure = failureOf(await gc({ "cni.dev/valid-attachments": [], connectWaitMs: 0 }));
    expect(failure).toMatchObject({ code: 11, details: expect.stringContaining(node().socket) });
    expect((await node().tracesWithoutDaemon()).links).toEqual([it.host]);
    await node().start();
    await node().del(it.pod);
  });
});

describe.runIf(canUseKernel())("STATUS", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  beforeAll(async () => {
    node = await createNode("status", cleanup, { podCidrs: ["10.78.9.0/30", "fd00:78:9::/64"] });
    await node.start();
  });
  afterAll(() => cleanup.run());

  const status = (conf: object = {}) => runPlugin(node.netns, { CNI_COMMAND: "STATUS" }, node.conf(conf));

  test("is silent while pods can be added", async () => {
    expect(await status()).toEqual(SILENCE);
  });

  test("does not look at what only ADD needs", async () => {
    expect(await status({ mtu: "wrong", prevResult: 7, runtimeConfig: [], routes: {}, sysctls: 1 })).toEqual(SILENCE);
  });

  test("is code 50 when a family has no address left, and silent again when one is back", async () => {
    const pods = [await newPod(), await newPod()];
    const capacity = (await node.allocations()).subnets[0]?.capacity;
    expect(capacity).toBe(pods.length);
    for (const pod of pods) resultOf(await node.add(pod));
    const failure = failureOf(await status());
    expect(failure).toMatchObject({ cniVersion: "1.1.0", code: 50, msg: "no address is left" });
    expect(failure.details).toBe("10.78.9.0/30 has 2 of 2 in use");
    await node.del(pods[0] as Pod);
    // It rests, and would be given if need be.
    expect(await status()).toEqual(SILENCE);
    await node.del(pods[1] as Pod);
  });

  test.each(["0.1.0", "0.3.1", "0.4.0", "1.0.0"])("in %s is refused with code 1", async (cniVersion) => {
    expect(failureOf(await status({ cniVersion }))).toMatchObject({ cniVersion, code: 1 });
  });

  test("is code 50 at once while the daemon is away", async () => {
    await node.stop();
    const failure = failureOf(await status({ connectWaitMs: 600_000, timeoutMs: 600_000 }));
    await node.start();
    expect(failure).toMatchObject({ code: 50, details: expect.stringContaining(node.socket) });
  });
});

describe.runIf(canUseKernel())("STATUS on a node without a way to any peer", () => {
  const NODE = { name: "node-1", addresses: ["172.31.0.1"], podCIDRs: [V4] };
  const PEER = { name: "node-2", addresses: ["172.31.0.2"], podCIDRs: ["10.78.2.0/24"] };
  const OTHER = { name: "node-3", addresses: ["172.31.0.3"], podCIDRs: ["10.78.3.0/24"] };
  const peersText = (...nodes: object[]) => JSON.stringify({ nodes });

  /** A node that serves, and has no link but lo: the kernel refuses every route to a peer. */
  async function newNode(...peers: object[]): Promise<FlatnetNode> {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const node = await createNode("unsynced", cleanup, { podCidrs: [V4], peers: peersText(NODE, ...peers) });
    await node.start();
    return node;
  }
  const status = (node: FlatnetNode) => runPlugin(node.netns, { CNI_COMMAND: "STATUS" }, node.conf());
  const isReady = async (node: FlatnetNode) => (await status(node)).status === 0;
  const expectCutOff = async (node: FlatnetNode) =>
    expect(failureOf(await status(node))).toEqual({
      cniVersion: "1.1.0",
      code: 51,
      msg: "the plugin is not available, and pods may be cut off",
      details: "the routes to the other nodes have not been in order since the daemon started",
    });
  const plugIn = (node: FlatnetNode) =>
    shell(
      node.netns,
      "ip link add up0 type veth peer name up1; ip link set up1 up; ip link set up0 up; ip address add 172.31.0.1/24 dev up0",
    );
  /** The daemon looks at its routes again when the file is written, and at intervals anyway. */
  const writePeers = (node: FlatnetNode, ...peers: object[]) =>
    writeFileSync(node.peersFile, peersText(NODE, ...peers));

  test("is code 51 until it has an uplink, and silent then, whatever becomes of the uplink", async () => {
    const node = await newNode(PEER);
    await expectCutOff(node);
    expect(await node.netns.ip("route", "show", "10.78.2.0/24")).toBe("");
    await plugIn(node);
    writePeers(node, PEER);
    await waitFor(() => isReady(node));
    expect(await node.netns.ip("route", "show", "10.78.2.0/24")).toContain("via 172.31.0.2 dev up0");
    // Pods of this node still reach each other: that is no reason to take no more of them.
    await node.netns.ip("link", "delete", "up0");
    writePeers(node, PEER, OTHER);
    await waitFor(() => node.log().some((line) => JSON.stringify(line).includes("10.78.3.0/24 via 172.31.0.3")));
    expect(await status(node)).toEqual(SILENCE);
  });

  test("is code 51 until the file has a peer that can be reached, and one is enough", async () => {
    const far = { ...PEER, addresses: ["192.0.2.2"] };
    const node = await newNode(far);
    await plugIn(node);
    await expectCutOff(node);
    writePeers(node, far, OTHER);
    await waitFor(() => isReady(node));
    expect(await status(node)).toEqual(SILENCE);
    expect(await node.netns.ip("route", "show", "10.78.3.0/24")).toContain("via 172.31.0.3 dev up0");
    expect(await node.netns.ip("route", "show", "10.78.2.0/24")).toBe("");
  });

  test("is code 51 again for a daemon that starts anew, and what pods there are reach each other", async () => {
    const node = await newNode(PEER);
    await plugIn(node);
    writePeers(node, PEER);
    await waitFor(() => isReady(node));
    await node.stop();
    await node.netns.ip("link", "delete", "up0");
    await node.start();
    await expectCutOff(node);
    const [one, other] = [await added(node), await added(node)];
    await reach(one.pod.netns, other.addresses[0] ?? "");
    for (const { pod } of [one, other]) expect(await node.del(pod)).toEqual(SILENCE);
    expect(await node.traces()).toEqual(NO_TRACES);
  });

  test("is silent while the file names no peer", async () => {
    expect(await status(await newNode())).toEqual(SILENCE);
  });
});

describe.runIf(canUseKernel())("ADD", () => {
  const node = useNode("wishes", [V4, V6]);

  test.each(ALL_VERSIONS)("in %s is answered in that version, and DEL in it ends it", async (cniVersion) => {
    const pod = await newPod();
    const finished = await node().add(pod, { cniVersion });
    expect(finished).toMatchObject({ status: 0, stderr: "" });
    const result = JSON.parse(finished.stdout);
    expect(result.cniVersion).toBe(cniVersion);
    const legacy = cniVersion === "0.1.0" || cniVersion === "0.2.0";
    const inUse = (await node().traces()).records;
    const told = legacy
      ? [result.ip4.ip, result.ip6.ip]
      : result.ips.map(({ address }: { address: string }) => address);
    expect(told.map((text: string) => text.split("/")[0]).sort()).toEqual(inUse);
    if (legacy) expect(result).not.toHaveProperty("interfaces");
    expect(await node().del(pod, { cniVersion })).toEqual(SILENCE);
  });

  test.each([
    ["runtimeConfig.ips", (ips: string[]) => ({ runtimeConfig: { ips } })],
    ["args.cni.ips", (ips: string[]) => ({ args: { cni: { ips } } })],
  ])("with %s gives these addresses, with or without length", async (_where, conf) => {
    for (const ips of [["10.78.1.77", "fd00:78:1::77"], ["10.78.1.78/24", "fd00:78:1::0:78/64"], ["fd00:78:1::79"]]) {
      const it = await added(node(), conf(ips));
      const wanted = ips.map((text) => text.replace(/\/.*/, "").replace("::0:", "::"));
      expect(it.addresses).toEqual(expect.arrayContaining(wanted));
      expect(await check(node(), it, conf(ips))).toEqual(SILENCE);
      await node().del(it.pod);
    }
  });

  test("with an address that somebody has is code 11 and names the holder", async () => {
    const first = await added(node(), { runtimeConfig: { ips: ["10.78.1.90"] } });
    const failure = failureOf(await node().add(await newPod(), { runtimeConfig: { ips: ["10.78.1.90"] } }));
    expect(failure).toMatchObject({ code: 11 });
    expect(failure.details).toContain("10.78.1.90");
    expect(failure.details).toContain(first.pod.containerId);
    await node().del(first.pod);
  });

  test.each([["10.79.0.1"], ["10.78.1.0"], ["192.0.2.1/24"], ["fd00::1"]])(
    "with %s, which no subnet of the node gives, is code 7",
    async (address) => {
      const failure = failureOf(await node().add(await newPod(), { runtimeConfig: { ips: [address] } }));
      expect(failure).toMatchObject({ code: 7, details: expect.stringContaining(address.split("/")[0] ?? "") });
    },
  );

  test("with two addresses of a family is code 7, and with others than it has already too", async () => {
    const two = { runtimeConfig: { ips: ["10.78.1.70", "10.78.1.71"] } };
    expect(failureOf(await node().add(await newPod(), two))).toMatchObject({ code: 7 });
    const it = await added(node());
    // While it is up there is nothing to ask the daemon for.
    await node().netns.ip("link", "delete", it.host);
    const failure = failureOf(await node().add(it.pod, { runtimeConfig: { ips: ["10.78.1.72"] } }));
    expect(failure).toMatchObject({ code: 7, details: expect.stringContaining(it.addresses[0] ?? "") });
    await node().del(it.pod);
  });

  test("with a MAC gives it to the pod's end, and packets find it", async () => {
    const runtimeConfig = { mac: "02:11:22:33:44:55" };
    const it = await added(node(), { runtimeConfig });
    expect(it.result.interfaces[1]?.mac).toBe("02:11:22:33:44:55");
    expect(await it.pod.netns.ip("link", "show", "eth0")).toContain("02:11:22:33:44:55");
    const other = await added(node());
    for (const address of it.addresses) await reach(other.pod.netns, address);
    for (const address of other.addresses) await reach(it.pod.netns, address);
    await node().del(other.pod);
    expect(await check(node(), it, { runtimeConfig })).toEqual(SILENCE);
    await node().del(it.pod);
  });

  test("with dns says what the runtime wants over what the configuration has", async () => {
    const pod = await newPod();
    const { dns } = resultOf(
      await node().add(pod, {
        dns: { nameservers: ["192.0.2.1"], domain: "example", search: ["a.example"], options: ["ndots:2"] },
        runtimeConfig: { dns: { servers: ["192.0.2.53"], searches: ["b.example"] } },
      }),
    );
    expect(dns).toEqual({
      nameservers: ["192.0.2.53"],
      domain: "example",
      search: ["b.example"],
      options: ["ndots:2"],
    });
    await node().del(pod);
  });

  test("with aliases has the daemon keep them, until an ADD has others", async () => {
    const it = await added(node(), { runtimeConfig: { aliases: ["web_1", "DB.Prod"] } });
    expect((await node().allocations()).allocations).toMatchObject([{ aliases: ["web_1", "DB.Prod"] }]);
    await node().netns.ip("link", "delete", it.host);
    resultOf(await node().add(it.pod, { runtimeConfig: { aliases: { tests: ["db"], other: ["web"] } } }));
    expect((await node().allocations()).allocations).toMatchObject([{ aliases: ["db"] }]);
    await node().del(it.pod);
  });

  test("with an alias that is no name is code 7 and says which", async () => {
    const failure = failureOf(await node().add(await newPod(), { runtimeConfig: { aliases: ["db", "d b"] } }));
    expect(failure).toMatchObject({ code: 7, details: expect.stringContaining('runtimeConfig.aliases.1 is "d b"') });
  });

  test("makes the configuration's routes, as the kernel shows them, and CHECK knows them", async () => {
    const conf = {
      routes: [
        { dst: "192.0.2.0/24", mtu: 1300, advmss: 1200, priority: 77 },
        { dst: "198.51.100.0/24", gw: "169.254.1.1", table: 1000, scope: 200 },
        { dst: "2001:db8:1::/48", mtu: 1300, advmss: 1200, priority: 78 },
        { dst: "2001:db8:2::/48", gw: "fe80::1", table: 1000 },
      ],
    };
    const it = await added(node(), conf);
    const show = async (...args: string[]) => (await it.pod.netns.ip("-N", ...args)).replaceAll(/ +/g, " ").trim();
    expect(await show("-4", "route", "show", "192.0.2.0/24")).toBe(
      "192.0.2.0/24 via 169.254.1.1 dev eth0 proto 70 metric 77 mtu 1300 advmss 1200",
    );
    expect(await show("-4", "route", "show", "table", "1000")).toBe(
      "198.51.100.0/24 via 169.254.1.1 dev eth0 proto 70 scope 200 onlink",
    );
    expect(await show("-6", "route", "show", "2001:db8:1::/48")).toContain(
      "2001:db8:1::/48 via fe80::1 dev eth0 proto 70 metric 78 mtu 1300 advmss 1200",
    );
    expect(await show("-6", "route", "show", "table", "1000")).toContain(
      "2001:db8:2::/48 via fe80::1 dev eth0 proto 70",
    );
    expect(await show("-4", "route", "show", "default")).toContain("via 169.254.1.1");
    expect(it.result.routes).toEqual([
      { dst: "0.0.0.0/0", gw: "169.254.1.1" },
      { dst: "192.0.2.0/24", gw: "169.254.1.1", mtu: 1300, advmss: 1200, priority: 77 },
      { dst: "198.51.100.0/24", gw: "169.254.1.1", table: 1000, scope: 200 },
      { dst: "::/0", gw: "fe80::1" },
      { dst: "2001:db8:1::/48", gw: "fe80::1", mtu: 1300, advmss: 1200, priority: 78 },
      { dst: "2001:db8:2::/48", gw: "fe80::1", table: 1000 },
    ]);
    expect(await check(node(), it, conf)).toEqual(SILENCE);
    await it.pod.netns.ip("route", "delete", "198.51.100.0/24", "table", "1000");
    expect(differencesOf(await check(node(), it, conf))).toEqual([
      "the pod has no route 198.51.100.0/24 via 169.254.1.1",
    ]);
    await node().del(it.pod);
  });

  test("makes a default route of the configuration instead of its own", async () => {
    const conf = { routes: [{ dst: "0.0.0.0/0", mtu: 1400 }] };
    const it = await added(node(), conf);
    expect(await it.pod.netns.ip("-4", "-N", "route", "show", "default")).toMatch(
      /^default via 169\.254\.1\.1 dev eth0 proto 70 mtu 1400 *\n$/,
    );
    expect(await check(node(), it, conf)).toEqual(SILENCE);
    await node().del(it.pod);
  });

  test.each([
    ["a foreign next hop", { dst: "192.0.2.0/24", gw: "10.78.1.1" }, "gw is 10.78.1.1"],
    ["a next hop of the other family", { dst: "192.0.2.0/24", gw: "fe80::1" }, 'gw is "fe80::1"'],
    ["host bits", { dst: "192.0.2.1/24" }, 'dst is "192.0.2.1/24"'],
    ["a scope that allows no next hop", { dst: "192.0.2.0/24", scope: 253 }, "scope is 253"],
  ])("refuses a route with %s by code 7 and leaves nothing", async (_what, route, told) => {
    const pod = await newPod();
    const failure = failureOf(await node().add(pod, { routes: [route] }));
    expect(failure).toMatchObject({ code: 7, details: expect.stringContaining(told) });
    expect(failure.details).toContain("routes.0");
    expect(await node().traces()).toEqual(NO_TRACES);
    expect(await pod.netns.ip("-br", "link", "show")).not.toContain("eth0");
  });

  test("sets the configuration's sysctls in the pod and nowhere else", async () => {
    const path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    const before = await shell(node().netns, `cat ${path}`);
    const conf = { sysctls: { "net.ipv4.ip_unprivileged_port_start": "7", "net.ipv4.conf.eth0.arp_ignore": "1" } };
    const it = await added(node(), conf);
    expect(await shell(it.pod.netns, `cat ${path} /proc/sys/net/ipv4/conf/eth0/arp_ignore`)).toBe("7\n1\n");
    expect(await shell(node().netns, `cat ${path}`)).toBe(before);
    expect(await check(node(), it, conf)).toEqual(SILENCE);
    await node().del(it.pod);
  });

  test.each([
    ["net.ipv4.there_is_none", "1"],
    ["net.ipv4.ip_unprivileged_port_start", "words"],
  ])("with the sysctl %s=%s, which the kernel refuses, names it and leaves nothing", async (name, value) => {
    const pod = await newPod();
    const failure = failureOf(await node().add(pod, { sysctls: { [name]: value } }));
    expect(failure).toMatchObject({ code: 100 });
    expect(failure.details).toContain(name);
    expect(await node().traces()).toEqual(NO_TRACES);
    expect(await pod.netns.ip("-br", "link", "show")).not.toContain("eth0");
  });

  test("limits what the pod receives and sends, and DEL ends both", async () => {
    const runtimeConfig = { bandwidth: { ingressRate: 8_000_000, egressRate: 16_000_000 } };
    const it = await added(node(), { runtimeConfig });
    expect(await run(inNetns(node().netns.path, "tc", "qdisc", "show", "dev", it.host))).toContain("rate 8Mbit");
    expect(await run(inNetns(it.pod.netns.path, "tc", "qdisc", "show", "dev", "eth0"))).toContain("rate 16Mbit");
    await node().del(it.pod);
    expect(await run(inNetns(node().netns.path, "tc", "qdisc", "show"))).not.toContain("tbf");
  });

  test("takes null for every capability, as runtimes write it", async () => {
    const runtimeConfig = { portMappings: null, bandwidth: null, ips: null, mac: null, dns: null, aliases: null };
    const it = await added(node(), { runtimeConfig, args: null, prevResult: null, routes: null, sysctls: null });
    await node().del(it.pod);
  });
});

describe.runIf(canUseKernel())("an ADD of an attachment that is up", () => {
  const node = useNode("again", [V4, V6]);

  test("is refused and changes nothing of it, its hostPorts neither", async () => {
    const ports = (hostPort: number) => ({
      runtimeConfig: { portMappings: [{ hostPort, containerPort: 80, protocol: "tcp" }] },
    });
    const it = await added(node(), ports(8080));
    for (const conf of [ports(9090), {}]) {
      expect(failureOf(await node().add(it.pod, conf))).toMatchObject({ code: 101 });
      expect((await node().allocations()).allocations).toMatchObject([{ portMappings: [{ hostPort: 8080 }] }]);
      expect(await check(node(), it, ports(8080))).toEqual(SILENCE);
    }
    await node().del(it.pod);
  });
});

describe.runIf(canUseKernel())("a configuration that went bad after the ADD", () => {
  const node = useNode("bad", [V4]);

  test("is no reason for DEL to fail", async () => {
    const it = await added(node());
    const bad = { prevResult: "x", runtimeConfig: 7, mtu: "x", routes: 1, sysctls: [], args: [], dns: "x", ipam: 7 };
    failureOf(await node().add(await newPod(), bad));
    expect(await node().del(it.pod, bad)).toEqual(SILENCE);
    expect(await node().traces()).toEqual(NO_TRACES);
  });
});

/** A server in a namespace for the rest of the test, which says `greeting` to whoever connects. */
async function serve(netns: Netns, port: number, greeting: string): Promise<void> {
  const script = `require("net").createServer((s) => s.end(${JSON.stringify(greeting)}))
    .listen(${port}, "::", () => console.log("ready"))`;
  const argv = inNetns(netns.path, process.execPath, "-e", script);
  const server = await startDaemon({ argv, ready: (output) => output.includes("ready") });
  onTestFinished(() => server.stop("SIGKILL").then(() => {}));
}

/** What a server says to a connection from the namespace. */
const ask = (from: Netns, address: string, port: number) =>
  run(inNetns(from.path, "bash", "-c", `exec 3<>/dev/tcp/${address}/${port}; cat <&3`), { timeoutMs: 20_000 });

/** The newest version that Debian's plugins speak. */
const VERSION = "1.0.0";

function flatnet({ socket, journalDir }: FlatnetNode): PluginEntry {
  return { type: "flatnet", socket, journalDir };
}

/** ADD, CHECK and DEL twice, as runtimes do, with what the list's plugins make tried in between. */
async function lifeOf(
  node: FlatnetNode,
  plugins: PluginEntry[],
  options: CallOptions,
  tried: (pod: Pod, result: CniResult) => Promise<unknown>,
): Promise<void> {
  const chain = new Chain(node.netns, VERSION, "tests", plugins);
  const pod = await newPod();
  const result = await chain.add(pod, options);
  // The reference plugins may log; ours has nothing to say.
  const silences = plugins.map(({ type }) => (type === "flatnet" ? SILENCE : expect.objectContaining(QUIET)));
  await tried(pod, result);
  const checked = await chain.check(pod, options);
  // portmap's CHECK wants the rules of both families, whatever the pod has (1.1.1 of the reference plugins).
  const without = (list: unknown[]) => list.filter((_, i) => plugins[i]?.type !== "portmap");
  expect(without(checked)).toEqual(without(silences));
  expect(await chain.del(pod, options)).toEqual(silences);
  // sbr's second DEL fails for want of the link (1.1.1).
  const again = await chain.del(pod, options);
  expect(again.filter((_, i) => plugins[i]?.type === "flatnet")).toEqual([SILENCE]);
}

describe.runIf(canUseKernel())("a list of plugins", () => {
  const node = useNode("chain", [V4, V6]);
  /** What ADD says by itself. */
  const ENDS = [expect.stringMatching(/^fl/), "eth0"];

  test("with tuning behind flatnet tunes the pod", async () => {
    const tuning = { type: "tuning", sysctl: { "net.ipv4.conf.eth0.arp_ignore": "1" }, mtu: 1400 };
    await lifeOf(node(), [flatnet(node()), tuning], {}, async (pod, result) => {
      expect(result.interfaces.map(({ name }) => name)).toEqual(ENDS);
      expect(await pod.netns.ip("link", "show", "eth0")).toContain("mtu 1400");
      expect(await shell(pod.netns, "cat /proc/sys/net/ipv4/conf/eth0/arp_ignore")).toBe("1\n");
    });
  });

  test("with bandwidth behind flatnet limits the host end, which flatnet then leaves alone", async () => {
    const bandwidth = { type: "bandwidth", capabilities: { bandwidth: true } };
    const limits = { ingressRate: 8_000_000, ingressBurst: 800_000, egressRate: 8_000_000, egressBurst: 800_000 };
    await lifeOf(
      node(),
      [flatnet(node()), bandwidth],
      { capabilities: { bandwidth: limits } },
      async (_pod, result) => {
        const host = result.interfaces.find(({ name }) => name.startsWith("fl"))?.name ?? "";
        expect(await run(inNetns(node().netns.path, "tc", "qdisc", "show", "dev", host))).toContain("rate 8Mbit");
      },
    );
  });

  test("with sbr behind flatnet routes by source", async () => {
    await lifeOf(node(), [flatnet(node()), { type: "sbr" }], {}, async (pod, result) => {
      for (const address of addressesOf(result)) {
        const family = address.includes(":") ? "-6" : "-4";
        expect(await pod.netns.ip(family, "rule", "show")).toContain(`from ${address} lookup`);
      }
      const other = await added(node());
      for (const address of addressesOf(result)) await reach(other.pod.netns, address);
      await node().del(other.pod);
    });
  });

  test("with loopback before flatnet has both results", async () => {
    const loopback = { type: "loopback" };
    await lifeOf(node(), [loopback, flatnet(node())], {}, async (pod, { interfaces, ips }) => {
      expect(interfaces.map(({ name }) => name)).toEqual(["lo", ...ENDS]);
      const own = ips.filter(({ address }) => !/^(127|::1)/.test(address));
      expect(own.map((ip) => ip.interface)).toEqual([2, 2]);
      expect(interfaces[2]).toMatchObject({ name: "eth0", sandbox: pod.netns.path });
    });
  });

  const PTP: PluginEntry = { type: "ptp", ipam: { type: "host-local", subnet: "192.0.2.0/24" } };

  test("passes on what ptp says of another interface, and appends its own", async () => {
    const ipam = { ...(PTP["ipam"] as object), dataDir: join(node().directory, "host-local") };
    const before = new Chain(node().netns, VERSION, "before", [{ ...PTP, ipam }]);
    const pod = await newPod();
    const first = await before.add(pod, { env: { CNI_IFNAME: "net1" } });
    const second = resultOf(await node().add(pod, { cniVersion: VERSION, prevResult: first }));
    expect(second.interfaces.slice(0, 2)).toEqual(first.interfaces);
    expect(second.interfaces.slice(2).map(({ name }) => name)).toEqual(ENDS);
    expect(second.ips.slice(0, 1)).toEqual(first.ips);
    expect(second.ips.slice(1).map((ip) => ip.interface)).toEqual([3, 3]);
    expect(second.routes.slice(0, first.routes?.length ?? 0)).toEqual(first.routes ?? []);
    const conf = { cniVersion: VERSION, prevResult: second };
    expect(await node().run("CHECK", pod, { conf })).toEqual(SILENCE);
    expect(await node().del(pod, conf)).toEqual(SILENCE);
    await before.del(pod, { env: { CNI_IFNAME: "net1" } });
  });

  test("with ptp before flatnet, which makes the interface of that name, is refused and keeps ptp's", async () => {
    const ipam = { ...(PTP["ipam"] as object), dataDir: join(node().directory, "host-local") };
    const before = new Chain(node().netns, VERSION, "before", [{ ...PTP, ipam }]);
    const pod = await newPod();
    const first = await before.add(pod);
    expect(failureOf(await node().add(pod, { cniVersion: VERSION, prevResult: first }))).toMatchObject({ code: 101 });
    expect(await pod.netns.ip("address", "show", "eth0")).toContain("192.0.2.");
    expect(await node().del(pod)).toEqual(SILENCE);
    await before.del(pod);
  });
});

describe.runIf(canUseKernel() && hasCommand("iptables"))("a list with plugins that need iptables", () => {
  const node = useNode("chain", [V4, V6]);

  test("with portmap behind flatnet leads a port of the node to the pod", async () => {
    const portmap = { type: "portmap", capabilities: { portMappings: true }, snat: true };
    const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: "tcp" }];
    onTestFinished(() => shell(node().netns, "ip address delete 192.0.2.1/32 dev lo").then(() => {}));
    await shell(node().netns, "ip address add 192.0.2.1/32 dev lo");
    const other = await added(node());
    await lifeOf(node(), [flatnet(node()), portmap], { capabilities: { portMappings } }, async (pod) => {
      await serve(pod.netns, 80, "the pod");
      expect(await ask(other.pod.netns, "192.0.2.1", 8080)).toBe("the pod");
    });
    await node().del(other.pod);
  });

  test("of flatnet, tuning, portmap and bandwidth works as a whole", async () => {
    const list: PluginEntry[] = [
      flatnet(node()),
      { type: "tuning", sysctl: { "net.core.somaxconn": "512" } },
      { type: "portmap", capabilities: { portMappings: true } },
      { type: "bandwidth", capabilities: { bandwidth: true } },
    ];
    const capabilities = {
      portMappings: [{ hostPort: 8081, containerPort: 81, protocol: "tcp" }],
      bandwidth: { ingressRate: 8_000_000, ingressBurst: 800_000 },
    };
    await lifeOf(node(), list, { capabilities }, async (pod) => {
      expect(await shell(pod.netns, "cat /proc/sys/net/core/somaxconn")).toBe("512\n");
    });
  });

  test("with firewall behind flatnet lets the pod's packets through", async () => {
    await lifeOf(node(), [flatnet(node()), { type: "firewall", backend: "iptables" }], {}, async (_pod, result) => {
      const rules = await run(inNetns(node().netns.path, "iptables", "-S", "CNI-FORWARD"));
      expect(rules).toContain(addressesOf(result)[0]);
    });
  });
});

describe.runIf(canUseKernel())("TRACEPARENT", () => {
  const node = useNode("trace", [V4]);
  const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

  test("is a header of the call to the daemon", async () => {
    const socket = join(node().directory, "listener.sock");
    const script = `const server = require("net").createServer((s) => s.on("data", (d) => {
      process.stdout.write(d.toString("latin1")); s.destroy(); }));
      server.listen(${JSON.stringify(socket)}, () => console.log("ready"))`;
    const argv = [process.execPath, "-e", script];
    const listener = await startDaemon({ argv, ready: (output) => output.includes("ready") });
    onTestFinished(() => listener.stop("SIGKILL").then(() => {}));
    const conf = { socket, connectWaitMs: 0 };
    failureOf(await node().run("ADD", await newPod(), { env: { TRACEPARENT }, conf }));
    await waitFor(() => listener.output().includes(`traceparent7${TRACEPARENT}`));
  });

  test("is in what a failing plugin says on stderr", async () => {
    const pod = await newPod();
    const finished = await node().run("ADD", pod, { env: { TRACEPARENT }, conf: { mtu: "x" } });
    expect(finished.stderr).toBe(
      `flatnet ADD traceparent=${TRACEPARENT}: invalid network configuration: mtu is "x", not a whole number from 0 to 65535\n`,
    );
  });

  test("that is malformed is not passed on", async () => {
    const pod = await newPod();
    const env = { TRACEPARENT: `${TRACEPARENT}\nx: y` };
    const finished = await node().run("ADD", pod, { env, conf: { mtu: "x" } });
    expect(finished.stderr).toMatch(/^flatnet ADD: /);
    resultOf(await node().run("ADD", pod, { env }));
    await node().del(pod);
  });

  test("is in the daemon's log line of the request", async () => {
    const pod = await newPod();
    resultOf(await node().run("ADD", pod, { env: { TRACEPARENT } }));
    expect(await node().run("DEL", pod, { env: { TRACEPARENT } })).toEqual(SILENCE);
    expect(node().log()).toContainEqual(expect.objectContaining({ traceparent: TRACEPARENT }));
  });
});
