// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from "node:child_process";
import {
  accessSync,
  constants,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { typeProblems } from "../manifests/types.ts";
import { parseManifests } from "../manifests.ts";
import { ROOT } from "../repo.ts";

const HERE = import.meta.dirname;
const SCRIPTS = ["up.sh", "load.sh", "test.sh", "down.sh"];
const SHELLCHECK = "/usr/bin/shellcheck";

/** Programs of the names, each of which says to `calls` how it was called, and does what the text says. */
function stubs(programs: Record<string, string>): { env: Record<string, string>; calls: () => string[] } {
  const directory = mkdtempSync(join(tmpdir(), "kind-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  const log = join(directory, "calls");
  writeFileSync(log, "");
  for (const [name, text] of Object.entries(programs)) {
    const lines = ["#!/bin/bash", `printf '%s\\n' "${name} $*" >> ${log}`, text, ""];
    writeFileSync(join(directory, name), lines.join("\n"), { mode: 0o755 });
  }
  // Of the machine only what every one has: its own docker, kind and kubectl are not to be found.
  for (const name of ["bash", "dirname", "grep", "cat"]) {
    const path = ["/bin", "/usr/bin"].map((place) => join(place, name)).find(existsSync) ?? name;
    writeFileSync(join(directory, name), `#!/bin/sh\nexec ${path} "$@"\n`, { mode: 0o755 });
  }
  return {
    env: { PATH: directory },
    calls: () =>
      readFileSync(log, "utf8")
        .split("\n")
        .filter((line) => line !== ""),
  };
}

function runScript(name: string, env: Record<string, string>) {
  const { status, stdout, stderr } = spawnSync("/bin/bash", [join(HERE, name)], { env, encoding: "utf8" });
  return { status, stdout, stderr };
}

// CI says that nothing may be skipped, and installs it.
const mayLint = existsSync(SHELLCHECK) || process.env["REQUIRE_KERNEL"] === "1";

test.runIf(mayLint)("the shell scripts are what shellcheck finds nothing in", () => {
  expect(existsSync(SHELLCHECK), "apt-get install shellcheck").toBe(true);
  const files = readdirSync(HERE).filter((name) => name.endsWith(".sh"));
  const paths = [...files.map((name) => join(HERE, name)), join(ROOT, "scripts/node")];
  expect(spawnSync(SHELLCHECK, ["-x", ...paths], { encoding: "utf8" }).stdout).toBe("");
});

describe.each(SCRIPTS)("%s", (name) => {
  test("can be started", () => {
    accessSync(join(HERE, name), constants.X_OK);
  });

  test("says in one line what is missing, and ends with 2", () => {
    const { env } = stubs({});
    const { status, stdout, stderr } = runScript(name, env);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).toMatch(new RegExp(`^${name} needs what is not on this machine's PATH: docker kind.*\\n$`));
  });

  test("says that docker doesn't run, and ends with 2", () => {
    const { env, calls } = stubs({ docker: "exit 1", kind: "", kubectl: "" });
    const { status, stderr } = runScript(name, env);
    expect(status).toBe(2);
    expect(stderr).toBe(`${name} needs a running docker, and \`docker info\` fails\n`);
    expect(calls()).toEqual(["docker info"]);
  });
});

test.each(["load.sh", "test.sh"])("%s does nothing to a cluster that isn't there", (name) => {
  const { env, calls } = stubs({ docker: "", kind: "echo another", kubectl: "" });
  const { status, stderr } = runScript(name, env);
  expect(status).toBe(2);
  expect(stderr).toContain("there is no kind cluster flatnet");
  expect(calls()).toEqual(["docker info", "kind get clusters"]);
});

test("down.sh removes the cluster, and a second time finds none", () => {
  const there = stubs({ docker: "", kind: "case $1 in get) echo flatnet;; esac" });
  expect(runScript("down.sh", there.env).status).toBe(0);
  expect(there.calls().at(-1)).toBe("kind delete cluster --name flatnet");
  const gone = stubs({ docker: "", kind: "" });
  expect(runScript("down.sh", gone.env)).toMatchObject({ status: 0, stdout: "there is no kind cluster flatnet\n" });
});

describe("test.sh", () => {
  /** A cluster of two nodes, in which a pod or node that asks is seen under what `seen` says of it. */
  function cluster(seen: string) {
    const kubectl = `
case "$*" in
  *"get pods"*) printf 'echo-a node-a 10.244.1.2,fd00::1:2,\\necho-b node-b 10.244.2.2,fd00::2:2,\\n' ;;
  *"get node node-a"*) printf '172.18.0.2 fc00::2 ' ;;
  *"get node node-b"*) printf '172.18.0.3 fc00::3 ' ;;
  *"get service"*) printf '10.96.0.9 fd00:10:96::9' ;;
  *exec*/hostname) printf echo-b ;;
  *exec*) ${seen} ;;
esac`;
    const docker = `
case "$*" in
  "exec node-a"*"http://["*) printf '[fc00::2]:999' ;;
  "exec node-b"*"http://["*) printf '[fc00::3]:999' ;;
  "exec node-a"*) printf '172.18.0.2:999' ;;
  "exec node-b"*) printf '172.18.0.3:999' ;;
esac`;
    return stubs({ docker, kind: "echo flatnet", kubectl });
  }
  const FLAT = `
case "$*" in
  *"exec echo-a"*"http://["*) printf '[fd00::1:2]:4711' ;;
  *"exec echo-b"*"http://["*) printf '[fd00::2:2]:4711' ;;
  *"exec echo-a"*) printf '10.244.1.2:4711' ;;
  *"exec echo-b"*) printf '10.244.2.2:4711' ;;
esac`;

  test("asks every pair of both families and the service, and is content with a flat cluster", () => {
    const { env } = cluster(FLAT);
    // Two families, two pods to ask from two pods and two nodes; two service addresses from two pods.
    expect(runScript("test.sh", env)).toEqual({ status: 0, stdout: "20 asked, 0 failed\n", stderr: "" });
  });

  test("names each pair that sees another address than the one who asks has", () => {
    const { env } = cluster(FLAT.replace("10.244.1.2:4711", "172.18.0.2:4711"));
    const { status, stdout, stderr } = runScript("test.sh", env);
    expect({ status, stdout }).toEqual({ status: 1, stdout: "20 asked, 2 failed\n" });
    expect(stderr).toBe(
      ["node-a", "node-b"]
        .map((to) => `NOT FLAT pod on node-a -> pod on ${to}, IPv4: wanted 10.244.1.2, got 172.18.0.2\n`)
        .join(""),
    );
  });

  test("names each pair without an answer", () => {
    const { status, stderr } = runScript("test.sh", cluster("exit 28").env);
    expect(status).toBe(1);
    expect(stderr).toContain("NOT FLAT pod on node-b -> pod on node-a, IPv6: wanted fd00::2:2, got no answer");
  });
});

test("the cluster has no network of its own, three nodes, and subnets of both families", () => {
  const { networking, nodes } = parse(readFileSync(join(HERE, "cluster.yaml"), "utf8"));
  expect(networking).toMatchObject({ disableDefaultCNI: true, ipFamily: "dual" });
  expect(nodes.map(({ role }: { role: string }) => role)).toEqual(["control-plane", "worker", "worker"]);
  expect(networking.podSubnet.split(",")).toHaveLength(2);
});

test("the pods of the proof are what Kubernetes' OpenAPI document knows", { timeout: 60_000 }, async () => {
  const name = "pods.yaml";
  expect(await typeProblems(parseManifests(readFileSync(join(HERE, name), "utf8"), name))).toEqual([]);
});

test("the image that is loaded is the one that the manifests start", () => {
  const image = execFileSync("/bin/bash", ["-c", `. ${join(HERE, "lib.sh")}; echo "$IMAGE"`], {
    encoding: "utf8",
  }).trim();
  const text = readFileSync(join(ROOT, "deploy/flatnet.yaml"), "utf8");
  expect([...text.matchAll(/image: (\S+)/g)].map(([, name]) => name)).toEqual([image]);
});
