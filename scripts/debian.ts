// SPDX-License-Identifier: Apache-2.0
//
// node scripts/debian.ts [lab|test]
//
// What the lab and the tests need from the operating system. As root on Debian the missing packages are installed; for
// anyone else one line says which they are.

import { existsSync } from "node:fs";
import { rm, writeFile } from "node:fs/promises";
import { explain, mustRun, StepError, say } from "./repo.ts";

/** A Debian package and the files one of which proves that it, or another distribution's equal, is there. */
interface Need {
  readonly package: string;
  readonly proof: readonly string[];
  readonly why: string;
}

const IPROUTE2: Need = {
  package: "iproute2",
  proof: ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"],
  why: "network namespaces of the lab and of tests, and the tests' second opinion on what is in the kernel",
};

const BIRD: Need = {
  package: "bird2",
  proof: ["/usr/sbin/bird"],
  why: "routes by BGP: on the nodes, and as the router between them",
};

/** The plugin is an engine in C and a module of ours, linked into one static executable. */
const BUILD_NEEDS: readonly Need[] = [
  { package: "gcc", proof: ["/usr/bin/cc"], why: "compiles the plugin's engine" },
  {
    package: "libc6-dev",
    proof: ["/usr/lib/x86_64-linux-gnu/libc.a", "/usr/lib/aarch64-linux-gnu/libc.a", "/usr/lib64/libc.a"],
    why: "the C library that is linked into the plugin",
  },
];

/** The lab must run on next to nothing. */
export const LAB_NEEDS: readonly Need[] = [...BUILD_NEEDS, IPROUTE2];
/** And of its topology bgp. */
export const BGP_LAB_NEEDS: readonly Need[] = [...LAB_NEEDS, BIRD];

export const TEST_NEEDS: readonly Need[] = [
  ...BUILD_NEEDS,
  IPROUTE2,
  BIRD,
  { package: "nftables", proof: ["/usr/sbin/nft"], why: "rulesets, and the masquerade rule that breaks flatness" },
  { package: "containerd", proof: ["/usr/bin/containerd"], why: "the container runtime and its ctr" },
  { package: "runc", proof: ["/usr/sbin/runc", "/usr/bin/runc"], why: "what containerd starts containers with" },
  {
    package: "containernetworking-plugins",
    proof: ["/usr/lib/cni/ptp", "/opt/cni/bin/ptp"],
    why: "the reference plugins to compare and to work together with",
  },
  {
    package: "iptables",
    proof: ["/usr/sbin/iptables"],
    why: "what the reference plugins portmap and firewall write with",
  },
  {
    package: "strace",
    proof: ["/usr/bin/strace"],
    why: "stops the plugin at each of its system calls, to be killed there",
  },
  {
    package: "shellcheck",
    proof: ["/usr/bin/shellcheck"],
    why: "reads the shell scripts, for what they would get wrong",
  },
];

/** The bench runs the programs that the tests compare with, and measures traffic with these. */
export const BENCH_NEEDS: readonly Need[] = [
  ...TEST_NEEDS,
  { package: "iperf3", proof: ["/usr/bin/iperf3"], why: "throughput between pods" },
  { package: "sockperf", proof: ["/usr/bin/sockperf"], why: "round trips between pods" },
  { package: "time", proof: ["/usr/bin/time"], why: "peak memory of plugins" },
];

const POLICY = "/usr/sbin/policy-rc.d";

/** Makes the needs present or throws StepError with one line that says what to install. */
export async function ensureDebian(needs: readonly Need[]): Promise<void> {
  const missing = needs.filter((need) => !need.proof.some((path) => existsSync(path)));
  if (missing.length === 0) return;
  const packages = missing.map((need) => need.package);
  const command = `apt-get install -y --no-install-recommends ${packages.join(" ")}`;
  if (process.getuid?.() !== 0 || !existsSync("/usr/bin/apt-get")) {
    throw new StepError(`missing from this machine; as root: ${command}`);
  }
  say(`installing ${packages.join(", ")}`);
  await withoutServices(async () => {
    const options = { env: { ...process.env, DEBIAN_FRONTEND: "noninteractive" } };
    // Another apt may be at work, on a machine that has just booted most of all.
    const wait = ["-o", "DPkg::Lock::Timeout=300"];
    await mustRun("apt-get", [...wait, "update"], options);
    await mustRun("apt-get", [...wait, "install", "-y", "--no-install-recommends", ...packages], options);
  });
  const still = missing.filter((need) => !need.proof.some((path) => existsSync(path)));
  if (still.length > 0) {
    throw new StepError(
      `apt-get installed ${packages.join(", ")}, yet ${still.map(({ proof }) => proof[0]).join(", ")} is missing`,
    );
  }
}

/**
 * Runs `install` while packages may not start services: the tests start their own containerd, and a second one that
 * comes up by itself on somebody's machine would be a surprise. A policy that is there already stays as it is.
 */
async function withoutServices(install: () => Promise<void>): Promise<void> {
  const text =
    "#!/bin/sh\n# Of flatnet's scripts/debian.ts, for the time of one apt-get install; may be deleted.\nexit 101\n";
  const ours = await writeFile(POLICY, text, { flag: "wx", mode: 0o755 }).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "EEXIST") return false;
      throw new StepError(`cannot write ${POLICY}`, "", { cause: error });
    },
  );
  // The default action of a signal would leave the policy behind: wait for apt-get, which gets Ctrl-C itself.
  const hold = (): void => {};
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, hold);
  try {
    await install();
  } finally {
    if (ours) await rm(POLICY, { force: true });
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.off(signal, hold);
  }
}

if (import.meta.main) {
  try {
    const what = process.argv[2] ?? "test";
    if (what !== "lab" && what !== "test") throw new StepError(`${what}: must be lab or test`);
    await ensureDebian(what === "lab" ? LAB_NEEDS : TEST_NEEDS);
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode = 1;
  }
}
