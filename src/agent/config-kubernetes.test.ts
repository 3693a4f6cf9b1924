// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { formatPrefix } from "../net/prefix.ts";
import { parseRange } from "../net/range.ts";
import { GOOD, parse, refusal } from "./testing/parse-config.ts";

const IN_KUBERNETES = ["--node-name", "node1", "--kubernetes", "true"];

test("in Kubernetes a name is enough", () => {
  const { podCIDRs, kubernetes } = parse(IN_KUBERNETES);
  expect(podCIDRs).toEqual([]);
  expect(kubernetes).toEqual({ kubeconfig: undefined, apiServer: undefined, serviceAccountDir: undefined });
});

test("how Kubernetes is reached is a file's keys, or flags", () => {
  const keys = "enabled: true, kubeconfig: /k, apiServer: 'https://[fd00::1]:6443', serviceAccountDir: /s";
  const expected = { kubeconfig: "/k", apiServer: "https://[fd00::1]:6443", serviceAccountDir: "/s" };
  expect(parse([], `nodeName: node1\nkubernetes: { ${keys} }`).kubernetes).toEqual(expected);
  const flags = ["--kubeconfig", "/k", "--api-server", "https://[fd00::1]:6443"];
  expect(parse([...IN_KUBERNETES, ...flags], "kubernetes: { serviceAccountDir: /s }").kubernetes).toEqual(expected);
});

test("in Kubernetes, subnets that are given stand", () => {
  const config = parse([...IN_KUBERNETES, "--pod-cidr", "10.244.1.0/24"]);
  expect(config.podCIDRs.map(formatPrefix)).toEqual(["10.244.1.0/24"]);
  expect(refusal([...IN_KUBERNETES, "--pod-cidr", "x"]).message).toContain('--pod-cidr: "x" is not a subnet');
});

test("a Kubernetes that is switched off gives no subnets", () => {
  expect(parse([...GOOD, "--kubernetes", "false", "--kubeconfig", "/k"]).kubernetes).toBeUndefined();
  expect(refusal(["--node-name", "node1", "--kubernetes", "false"]).message).toBe("--pod-cidr is missing");
});

test("rules about the subnets of other nodes stand in Kubernetes, where all nodes have one configuration", () => {
  const { rules } = parse([...IN_KUBERNETES, "--exclude", "10.244.9.0/28"]);
  expect(rules.excluded).toEqual([parseRange("10.244.9.0/28")]);
});

test("in Kubernetes it is known what is inside the cluster", () => {
  const args = [...IN_KUBERNETES, "--egress-masquerade", "true"];
  expect(parse(args, "routes: { mode: bgp }").egress.masquerade).toBe(true);
});

test.for<[args: string[], file: string | undefined, message: string]>([
  [["--peers", "/p.yaml"], undefined, "--peers is /p.yaml: with --kubernetes the nodes are Kubernetes'"],
  [["--api-server", "node1"], undefined, '--api-server is "node1": is not a URL like https://HOST:PORT'],
  [["--api-server", "https://me:secret@node1"], undefined, "is not a URL like https://HOST:PORT"],
  [["--kubeconfig", "k"], undefined, '--kubeconfig is "k": is not an absolute path'],
  [["--mtu", "1279"], undefined, "--mtu is 1279: IPv6 needs at least 1280"],
  [[], "kubernetes: { token: x }", "kubernetes.token is no key of the configuration"],
])("in Kubernetes %j with the file %j is refused", ([args, file, message]) => {
  expect(refusal([...IN_KUBERNETES, ...args], file).message).toContain(message);
});

test("policies are enforced with Kubernetes unless somebody says not, and never without", () => {
  const inKubernetes = ["--node-name", "node1", "--kubernetes", "true"];
  expect(parse(inKubernetes).policy).toEqual({
    enabled: true,
    onUnknown: "deny",
    allowFromNode: true,
    clusterPolicies: false,
  });
  expect(parse([...inKubernetes, "--policy", "false"]).policy.enabled).toBe(false);
  expect(parse([...inKubernetes, "--policy-on-unknown", "allow"]).policy.onUnknown).toBe("allow");
  expect(() => parse([...GOOD, "--policy", "true"])).toThrow(/^--policy needs --kubernetes/);
  expect(() => parse([...GOOD, "--policy-on-unknown", "maybe"])).toThrow("is neither deny nor allow");
});
