// SPDX-License-Identifier: Apache-2.0
//
// A private containerd with its CRI: the runtime that kubelet would use, without kubelet.
//
// Everything it makes ends with it. It runs in a mount and a PID namespace of its own, whose first process is a shell
// that ends with its stdin: when that comes, because the test says so or because the test process died, the kernel kills
// every shim and sandbox in the PID namespace, and with the last process the mounts are gone: the sandboxes' root file
// systems, the pinned network namespaces, and a private /run with the shims' sockets, which containerd would otherwise
// share with every other containerd of the machine.

import { randomBytes } from "node:crypto";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type CriClient, createCriClient, type SandboxConfig } from "../cri/client.ts";
import { type Cleanup, type Daemon, run, startDaemon, waitFor } from "../daemon.ts";
import { inNetns, type Netns } from "../netns.ts";
import type { PauseArch } from "../pause/elf.ts";
import { PAUSE_IMAGE, pauseImageArchive } from "../pause/image.ts";
import { containerdConfig, SNAPSHOTTER } from "./config.ts";

export interface ContainerdOptions {
  /** The network namespace that it runs in: its node. */
  readonly netns: Netns;
  /** The network of its sandboxes, a CNI network configuration list. Without one it starts, and has no network yet. */
  readonly conflist?: object;
  /** Directories, made if they are missing, that somebody else writes to as well; private ones when absent. */
  readonly cni?: { readonly binDir: string; readonly confDir: string };
  /** The plugins it can call: name to executable. containerd calls `loopback` beside those of the conflist. */
  readonly plugins: Readonly<Record<string, string>>;
}

export interface Containerd {
  readonly cri: CriClient;
  /** Path of its socket. */
  readonly endpoint: string;
  /** A sandbox's configuration, for a pod that no other test has. */
  sandboxConfig(podName: string): SandboxConfig;
  /** A path as the rest of the machine sees it, for one that containerd told: its /run is private. */
  hostPath(path: string): string;
  /** Runs a command in containerd's mount and PID namespaces: where the paths and pids that it tells are valid. */
  inside(...argv: string[]): Promise<string>;
  /** What containerd logged. */
  log(): string;
}

/** Starts a containerd that can run sandboxes. `cleanup` stops and removes what is left of them, and it, and its files. */
export async function startContainerd(options: ContainerdOptions, cleanup: Cleanup): Promise<Containerd> {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), "containerd-")));
  cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
  const paths = {
    root: join(directory, "root"),
    state: join(directory, "state"),
    socket: join(directory, "containerd.sock"),
    cniBinDir: options.cni?.binDir ?? join(directory, "bin"),
    cniConfDir: options.cni?.confDir ?? join(directory, "net.d"),
  };
  const configPath = join(directory, "config.toml");
  for (const path of [paths.cniBinDir, paths.cniConfDir]) mkdirSync(path, { recursive: true });
  for (const [name, executable] of Object.entries(options.plugins)) {
    symlinkSync(executable, join(paths.cniBinDir, name));
  }
  const { conflist } = options;
  if (conflist !== undefined) writeFileSync(join(paths.cniConfDir, "10-test.conflist"), JSON.stringify(conflist));
  writeFileSync(configPath, containerdConfig(paths, PAUSE_IMAGE));

  const cgroup = `flatnet-test-${randomBytes(4).toString("hex")}`;
  cleanup.add(() => removeCgroups(cgroup));

  const cri = createCriClient(paths.socket);
  const needless = new Set(conflist === undefined ? ["NetworkReady"] : []);
  const daemon = await startDaemon({
    argv: isolated(options.netns, ["containerd", "--config", configPath]),
    ready: async () => (await cri.conditions()).every(({ type, status }) => status || needless.has(type)),
  });
  cleanup.add(() => stop(daemon, cri));

  await importPauseImage(directory, paths.socket, cri);

  return {
    cri,
    endpoint: paths.socket,
    sandboxConfig: (podName) => ({
      metadata: { name: podName, uid: randomBytes(16).toString("hex"), namespace: "default" },
      hostname: podName,
      dnsConfig: { servers: ["192.0.2.53"] },
      linux: { cgroupParent: `/${cgroup}` },
    }),
    hostPath: (path) => `/proc/${daemon.pid}/root${path}`,
    inside: (...argv) => {
      const namespaces = `/proc/${daemon.pid}/ns`;
      return run(["nsenter", `--mount=${namespaces}/mnt`, `--pid=${namespaces}/pid_for_children`, "--", ...argv]);
    },
    log: () => daemon.output(),
  };
}

/**
 * The first process of the PID namespace. It ends when containerd does, or when its stdin does, which only the test holds
 * open; everything else in the namespace ends with it.
 */
const INIT = `
exec 3<&0
mount -t tmpfs tmpfs /run || exit
"$@" </dev/null 3<&- &
daemon=$!
{ read -r _ <&3; kill -KILL "$daemon"; } &
wait "$daemon"
`;

/** `ip netns exec` would not do to enter the node: it mounts a fresh /sys over the cgroups that runc needs. */
function isolated(netns: Netns, argv: string[]): string[] {
  const unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
  return inNetns(netns.path, ...unshare, "sh", "-c", INIT, "sh", ...argv);
}

async function stop(daemon: Daemon, cri: CriClient): Promise<void> {
  try {
    for (const id of await cri.listPodSandboxes()) {
      await cri.stopPodSandbox(id);
      await cri.removePodSandbox(id);
    }
  } finally {
    cri.close();
    await daemon.stop("close stdin");
  }
}

async function importPauseImage(directory: string, socket: string, cri: CriClient): Promise<void> {
  const archive = join(directory, "pause.tar");
  writeFileSync(archive, pauseImageArchive(process.arch as PauseArch));
  const ctr = ["ctr", "--address", socket, "--namespace", "k8s.io"];
  await run([...ctr, "images", "import", "--snapshotter", SNAPSHOTTER, archive]);
  // The CRI plugin hears of the image by an event.
  await waitFor(() => cri.hasImage(PAUSE_IMAGE));
}

/** Removes a cgroup and those below, in every hierarchy (v1) or in the one (v2). Their processes must be gone. */
function removeCgroups(name: string): void {
  const base = "/sys/fs/cgroup";
  const hierarchies = [
    base,
    ...readdirSync(base, { withFileTypes: true }).flatMap((e) => (e.isDirectory() ? join(base, e.name) : [])),
  ];
  for (const hierarchy of hierarchies) removeCgroup(join(hierarchy, name));
}

function removeCgroup(path: string): void {
  let children: string[];
  try {
    children = readdirSync(path, { withFileTypes: true }).flatMap((entry) => (entry.isDirectory() ? entry.name : []));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  for (const child of children) removeCgroup(join(path, child));
  rmdirSync(path);
}
