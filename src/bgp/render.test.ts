// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { type BirdInput, renderBird, renderRelease } from "./render.ts";
import { type BgpNode, planSessions } from "./sessions.ts";
import { node, settings } from "./testing/cluster.ts";

function input(written: object, nodes: readonly BgpNode[], passwords: Record<string, string> = {}): BirdInput {
  const [self] = nodes as [BgpNode];
  const { asn, ...rest } = settings(written);
  const { sessions } = planSessions({ asn, ...rest }, self, nodes);
  const passwordsByFile = new Map(Object.entries(passwords));
  return {
    routerId: "172.31.0.1",
    asn,
    subnets: self.podCIDRs,
    sessions,
    passwords: passwordsByFile,
    log: "/l",
    table: 254,
  };
}

/** The lines of the block that begins so, without indentation. */
function block(config: string, begin: string): string[] {
  const lines = config.split("\n");
  const at = lines.findIndex((line) => line.startsWith(begin));
  const rest = lines.slice(at);
  return rest.slice(1, rest.indexOf("}")).map((line) => line.trim());
}

test("a node's own subnets are announced, and only what BGP learned goes to the kernel", () => {
  const config = renderBird(input({}, [node(1), node(2)]));
  expect(block(config, "protocol static own4")).toEqual(["ipv4;", "route 10.77.1.0/24 unreachable;"]);
  expect(block(config, "protocol static own6")).toEqual(["ipv6;", "route fd00:77:1::/64 unreachable;"]);
  expect(block(config, "protocol kernel kernel4")).toEqual([
    "persist;",
    "graceful restart;",
    "kernel table 254;",
    "metric 32;",
    "scan time 1;",
    "ipv4 { import none; export where source = RTS_BGP; };",
  ]);
});

test("a node of the cluster is in the same AS and may announce its subnets only", () => {
  expect(block(renderBird(input({}, [node(1), node(2)])), "protocol bgp peer_fd00_31__2")).toEqual([
    "local fd00:31::1 as 64512;",
    "neighbor fd00:31::2 as 64512;",
    "bfd off;",
    "ipv6 {",
    "import where net ~ [ fd00:77:2::/64 ];",
    'export where proto = "own6";',
    "next hop prefer global;",
    "};",
  ]);
});

test("a router may announce anything but the node's own subnets and a default route, and is told the own ones only", () => {
  const written = { peers: [{ address: "172.31.0.254", asn: 64_513, passwordFile: "/p", bfd: true }] };
  const config = renderBird(input(written, [node(1)], { "/p": "secret" }));
  expect(block(config, "protocol bgp peer_172_31_0_254")).toEqual([
    "local 172.31.0.1 as 64512;",
    "neighbor 172.31.0.254 as 64513;",
    expect.stringMatching(/^#/),
    "allow local as 1;",
    "bfd on;",
    'password "secret";',
    "ipv4 {",
    "import where net !~ [ 0.0.0.0/0, 10.77.1.0/24+ ];",
    'export where proto = "own4";',
    "};",
  ]);
  expect(config).toContain("protocol bfd {");
});

test("next hops that a reflector outside of the cluster passes on may be on other links, behind whatever leads there", () => {
  const config = renderBird(input({ peers: [{ address: "172.31.0.254", asn: 64_512 }] }, [node(1, [4])]));
  expect(block(config, "protocol bgp peer_172_31_0_254")).toEqual(
    expect.arrayContaining(["gateway recursive;", "igp table interior4;"]),
  );
  expect(block(config, "protocol kernel kernel4").slice(-2)).toEqual([
    "learn;",
    "ipv4 { import where krt_source != 70; export where source = RTS_BGP; };",
  ]);
});

test("a reflector tells its clients what others announced", () => {
  const config = renderBird(input({ reflectors: ["node-1"] }, [node(1, [4]), node(2, [4])]));
  expect(block(config, "protocol bgp peer_172_31_0_2")).toEqual(
    expect.arrayContaining(["rr client;", 'export where proto = "own4" || source = RTS_BGP;']),
  );
});

test("a node without subnets announces nothing that BIRD could take", () => {
  const config = renderBird(input({}, [node(1, [4]), { ...node(2, [4]), podCIDRs: [] }]));
  expect(block(config, "protocol bgp peer_172_31_0_2")).toContain("import none;");
});

test("a BIRD that is to let go keeps everything but its routes", () => {
  const config = renderBird(input({}, [node(1), node(2)]));
  expect(renderRelease(config).split("\n")).toEqual(config.split("\n").filter((line) => line !== "  persist;"));
  expect(renderRelease(config)).not.toBe(config);
});
