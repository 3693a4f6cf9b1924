// SPDX-License-Identifier: Apache-2.0
//
// The faults of the plugin; imported for its effect, after the plugin itself: its start comes behind theirs.
import { sys } from "../../sys/quickjs.ts";
import { O_CREAT, O_RDONLY, O_WRONLY } from "../../sys/sys.ts";
import { arm } from "./faults.ts";

const O_APPEND = 0o2000;

const { start } = host;
host.start = () => {
  arm({
    env: host.env,
    append: (path, text) => {
      const fd = sys.open(path, O_WRONLY | O_CREAT | O_APPEND, 0o644);
      sys.write(fd, new TextEncoder().encode(text));
      sys.close(fd);
    },
    read: (path) => {
      const fd = sys.open(path, O_RDONLY);
      const into = new Uint8Array(64);
      const length = sys.read(fd, into);
      sys.close(fd);
      return new TextDecoder().decode(into.subarray(0, length));
    },
    now: sys.now,
    kill: () => host.kill?.(),
  });
  start?.();
};
