// SPDX-License-Identifier: Apache-2.0
import { sys } from "../../src/sys/node.ts";
import { O_RDONLY } from "../../src/sys/sys.ts";
import type { Netns } from "./netns.ts";

/** Runs `work`, which may not wait, with this thread in the namespace. Sockets that it opens stay there. */
export function visit<T>({ path }: Pick<Netns, "path">, work: () => T): T {
  const own = sys.open("/proc/self/ns/net", O_RDONLY);
  const other = sys.open(path, O_RDONLY);
  try {
    sys.setns(other);
    try {
      return work();
    } finally {
      sys.setns(own);
    }
  } finally {
    sys.close(other);
    sys.close(own);
  }
}
