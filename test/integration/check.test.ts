// SPDX-License-Identifier: Apache-2.0
//
// CHECK: silent on what ADD made, and every difference told.

import { describe, expect, onTestFinished, test } from "vitest";
import {
  type Added,
  added,
  CHECKED_VERSIONS,
  check,
  differencesOf,
  FAMILIES,
  newPod,
  runIpam,
  SILENCE,
  setSysctl,
  shell,
  useNode,
  V4,
  V6,
} from "../helpers/attachments.ts";
import { run } from "../helpers/daemon.ts";
import { canUseKernel, inNetns, type Netns } from "../helpers/netns.ts";
import { failureOf } from "../helpers/plugin.ts";

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
