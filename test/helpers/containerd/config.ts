// SPDX-License-Identifier: Apache-2.0
//
// The configuration of a containerd that shares nothing with another one on the machine.

/** Where a private containerd keeps what is its own. */
export interface ContainerdPaths {
  readonly root: string;
  readonly state: string;
  readonly socket: string;
  readonly cniBinDir: string;
  readonly cniConfDir: string;
}

/**
 * The native snapshotter copies, which for one small file costs nothing, and works on every file system (overlayfs does
 * not on an overlay, as in a CI container).
 */
export const SNAPSHOTTER = "native";

/** config.toml, version 2, for containerd 1.6 and 1.7. `sandboxImage` must be imported: nothing is ever pulled. */
export function containerdConfig(paths: ContainerdPaths, sandboxImage: string): string {
  // A TOML basic string has JSON's escapes.
  const text = (value: string) => JSON.stringify(value);
  // What this machine may not have need not be tried, and `opt` would make /opt/containerd.
  return `version = 2
root = ${text(paths.root)}
state = ${text(paths.state)}
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.overlayfs",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = ${text(paths.socket)}

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = ${text(sandboxImage)}
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  # Without CAP_SYS_RESOURCE a process cannot lower its OOM score, and every sandbox wants -998.
  restrict_oom_score_adj = true
  # A path without /var/run in it, which is a link that leads the test back to its own /run.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = ${text(SNAPSHOTTER)}
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = ${text(paths.cniBinDir)}
    conf_dir = ${text(paths.cniConfDir)}
`;
}
