// SPDX-License-Identifier: Apache-2.0
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { V1Container, V1DaemonSet, V1PodSpec } from "@kubernetes/client-node";
import { describe, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { type Config, parseConfig } from "../src/agent/config.ts";
import { grantedRights } from "./manifests/rights.ts";
import { typeProblems } from "./manifests/types.ts";
import { DEPLOY, type Manifest, parseManifests, RENDERED, render, renderPlain } from "./manifests.ts";

const KUBECTL = ["/usr/bin/kubectl", "/usr/local/bin/kubectl"].find(existsSync);

const read = (name: string) => readFileSync(join(DEPLOY, name), "utf8");
const manifestsOf = (name: string) => parseManifests(read(name), name);
const overlays = readdirSync(join(DEPLOY, "overlays"));

/** kustomize sorts, and quotes otherwise. */
function byName(manifests: readonly Manifest[]): Map<string, Manifest> {
  return new Map(manifests.map((manifest) => [`${manifest.kind} ${manifest.metadata.name}`, manifest]));
}

function podSpec(name: string): V1PodSpec {
  const daemonSet = manifestsOf(name).find(({ kind }) => kind === "DaemonSet") as unknown as V1DaemonSet;
  const spec = daemonSet.spec?.template.spec;
  if (spec === undefined) throw new Error(`${name} has no pods`);
  return spec;
}

/** The container that does something to the node. */
function worker(name: string): V1Container {
  const { initContainers = [], containers } = podSpec(name);
  const [container] = [...initContainers, ...containers];
  if (container === undefined) throw new Error(`${name} has no container`);
  return container;
}

describe.each(Object.keys(RENDERED))("deploy/%s", (name) => {
  test("is what `npm run manifests` writes", () => {
    expect(read(name)).toBe(render(name));
  });

  test("is what Kubernetes' OpenAPI document knows", { timeout: 60_000 }, async () => {
    expect(await typeProblems(manifestsOf(name))).toEqual([]);
  });

  test("has nothing twice, and what has a namespace names it", () => {
    const manifests = manifestsOf(name);
    expect(byName(manifests).size).toBe(manifests.length);
    for (const { kind, metadata } of manifests) {
      const clusterWide = ["Namespace", "ClusterRole", "ClusterRoleBinding"].includes(kind);
      expect([kind, metadata.namespace]).toEqual([kind, clusterWide ? undefined : "flatnet-system"]);
    }
  });

  test("mounts every volume, and has a volume for every mount", () => {
    const { volumes = [], initContainers = [], containers } = podSpec(name);
    const mounted = [...initContainers, ...containers].flatMap(({ volumeMounts = [] }) => volumeMounts);
    expect(mounted.map((mount) => mount.name).sort()).toEqual(volumes.map((volume) => volume.name).sort());
  });

  test("no container is privileged, may become more than it is, or writes to its own file system", () => {
    const { initContainers = [], containers, securityContext } = podSpec(name);
    expect(securityContext?.seccompProfile?.type).toBe("RuntimeDefault");
    for (const { securityContext: context } of [...initContainers, ...containers]) {
      expect(context).toMatchObject({
        privileged: false,
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ["ALL"] },
      });
    }
  });

  test.runIf(KUBECTL !== undefined)("kubectl makes the same of the kustomization", () => {
    const text = execFileSync(KUBECTL ?? "", ["kustomize", join(DEPLOY, RENDERED[name] ?? "")], { encoding: "utf8" });
    expect(byName(parseManifests(text, "kubectl"))).toEqual(byName(manifestsOf(name)));
  });
});

const CONTAINER = { name: "flatnetd", securityContext: {} };
const SPEC = {
  selector: {},
  template: { spec: { containers: [CONTAINER] } },
};

test.each([
  ["a field that doesn't exist", { securityContext: { readonlyRootFilesystem: true } }, /readonlyRootFilesystem/],
  ["a value of another type", { securityContext: { runAsUser: "0" } }, /'string' is not assignable to type 'number'/],
  ["a field that is missing", { name: undefined }, /'name'+ is missing/],
])("%s is found", { timeout: 60_000 }, async (_, change, problem) => {
  const spec = { ...SPEC, template: { spec: { containers: [{ ...CONTAINER, ...change }] } } };
  const daemonSet = { apiVersion: "apps/v1", kind: "DaemonSet", metadata: { name: "x" } };
  expect(await typeProblems([{ ...daemonSet, spec: SPEC } as Manifest])).toEqual([]);
  expect((await typeProblems([{ ...daemonSet, spec } as Manifest])).join("\n")).toMatch(problem);
});

test("a kind that nobody has looked at is found", async () => {
  const policy = { apiVersion: "policy/v1beta1", kind: "PodSecurityPolicy", metadata: { name: "x" } };
  expect(await typeProblems([policy])).toEqual(["policy/v1beta1 PodSecurityPolicy is no kind that is used here"]);
});

test("a kustomization that changes what it lists is not rendered", () => {
  expect(() => renderPlain("x", () => "resources: [a.yaml]\nnamePrefix: other-")).toThrow("and has namePrefix");
});

test("what takes flatnet from a node sees of it what the agent does, and may do as much", () => {
  const agent = worker("flatnet.yaml");
  const uninstall = worker("uninstall.yaml");
  const mounts = (agent.volumeMounts ?? []).filter(({ name }) => name !== "config");
  const cache = { name: "cni-cache", mountPath: "/var/lib/cni", readOnly: true };
  expect(uninstall.volumeMounts).toEqual([...mounts, cache]);
  expect(uninstall.securityContext).toEqual(agent.securityContext);
  expect(uninstall.image).toBe(agent.image);
  const volumes = (podSpec("flatnet.yaml").volumes ?? []).filter(({ name }) => name !== "config");
  expect(podSpec("uninstall.yaml").volumes?.slice(0, -1)).toEqual(volumes);
  expect(podSpec("uninstall.yaml").automountServiceAccountToken).toBe(false);
});

test("what keeps agents from others' Nodes is about their account, and Kubernetes knows it", {
  timeout: 60_000,
}, async () => {
  const manifests = manifestsOf("own-node.yaml");
  expect(await typeProblems(manifests)).toEqual([]);
  const [account] = manifestsOf("flatnet.yaml").filter(({ kind }) => kind === "ServiceAccount");
  const { namespace, name } = account?.metadata ?? {};
  expect(JSON.stringify(manifests)).toContain(`system:serviceaccount:${namespace}:${name}`);
});

test("the agent may ask the API server for this and nothing else", () => {
  const watched = ["nodes", "pods", "namespaces", "networkpolicies.networking.k8s.io"];
  const all = [...watched, "clusternetworkpolicies.policy.networking.k8s.io"];
  const single = ["get nodes", "get pods", "patch nodes", "patch nodes/status", "create events", "patch events"];
  expect([...grantedRights()].sort()).toEqual(
    [...all.flatMap((resource) => [`list ${resource}`, `watch ${resource}`]), ...single].sort(),
  );
});

describe.each(overlays)("overlay %s", (name) => {
  const directory = `overlays/${name}`;
  const { resources, patches } = parse(read(`${directory}/kustomization.yaml`));

  test("changes objects of the base", () => {
    expect(resources).toEqual(["../../base"]);
    const base = byName(manifestsOf("flatnet.yaml"));
    for (const { path } of patches) {
      for (const [object] of byName(manifestsOf(`${directory}/${path}`))) expect([...base.keys()]).toContain(object);
    }
  });

  test("says of the daemon's configuration all that the base does", () => {
    const { cni, ...base } = configOf("base/config.yaml") as { cni: object };
    // In the one for a change of networks the conflist waits for a person.
    const staged = name === "migrate" ? { confDir: "/var/lib/flatnet/net.d" } : {};
    expect(configOf(`${directory}/config.yaml`)).toMatchObject({ ...base, cni: { ...cni, ...staged } });
  });

  test.runIf(KUBECTL !== undefined)(
    "is rendered by kubectl, to what Kubernetes knows",
    { timeout: 60_000 },
    async () => {
      const text = execFileSync(KUBECTL ?? "", ["kustomize", join(DEPLOY, directory)], { encoding: "utf8" });
      const manifests = parseManifests(text, name);
      expect(await typeProblems(manifests)).toEqual([]);
      expect([...byName(manifests).keys()].sort()).toEqual([...byName(manifestsOf("flatnet.yaml")).keys()].sort());
    },
  );
});

test.each(["base", ...overlays.map((name) => `overlays/${name}`)])("flatnetd takes the configuration of %s", (name) => {
  const text = stringify(configOf(`${name}/config.yaml`));
  const [container] = podSpec("flatnet.yaml").containers;
  const args = (container?.args ?? []).map((arg) => arg.replace("$(NODE_NAME)", "node-1"));
  const config = parseConfig(args, (path) => (path === "/etc/flatnet/config.yaml" ? text : ""));
  expect(config).toMatchObject({
    nodeName: "node-1",
    kubernetes: {},
    node: { startupTaint: "flatnet.dev/agent-not-ready" },
  });
});

test("the probes ask where the daemon answers", () => {
  const { host, port } = (
    parseConfig(["--config=/c", "--node-name=n"], () => stringify(configOf("base/config.yaml"))) as Config
  ).healthAddress ?? { host: "", port: 0 };
  const { startupProbe, livenessProbe, readinessProbe } = worker("flatnet.yaml");
  for (const probe of [startupProbe, livenessProbe, readinessProbe])
    expect(probe?.httpGet).toMatchObject({ host, port });
});

/** flatnetd's configuration in a ConfigMap. */
function configOf(name: string): object {
  const [configMap] = manifestsOf(name);
  return parse((configMap as unknown as { data: Record<string, string> }).data["config.yaml"] ?? "");
}
