// SPDX-License-Identifier: Apache-2.0
//
// A visit to a pod's network namespace. A namespace is a property of a socket: what has to happen inside happens in one
// short visit that leaves a netlink socket behind. Nothing else of the process ever runs there, because nothing waits.
import { type Fd, O_RDONLY, O_WRONLY, type Sys, SysError } from "../sys/sys.ts";
import { PodNetworkError } from "./errors.ts";

/** A pod's namespace: `fd` is open on it, and `path` is its name for people. */
export interface PodNetns {
  readonly fd: Fd;
  readonly path: string;
}

export const OWN_NETNS = "/proc/self/ns/net";

/**
 * Runs `visit` with the thread in the namespace and brings it back, whatever happens.
 * @throws PodNetworkError PODNET_NETNS when the file is none.
 */
export function inNetns<T>(sys: Sys, fd: Fd, path: string, visit: () => T): T {
  const own = sys.open(OWN_NETNS, O_RDONLY);
  try {
    try {
      sys.setns(fd);
    } catch (cause) {
      if (cause instanceof SysError && cause.code === "EINVAL")
        throw new PodNetworkError("PODNET_NETNS", `${path} is not a network namespace`, cause);
      throw cause;
    }
    try {
      return visit();
    } finally {
      sys.setns(own);
    }
  } finally {
    sys.close(own);
  }
}

/** Writes a sysctl of the calling thread's namespace: `ipv6/conf/eth0/accept_dad`. */
export function writeSysctl(sys: Sys, name: string, value: string): void {
  const fd = sys.open(`/proc/sys/net/${name}`, O_WRONLY);
  try {
    sys.write(fd, new TextEncoder().encode(value));
  } finally {
    sys.close(fd);
  }
}
