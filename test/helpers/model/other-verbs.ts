// SPDX-License-Identifier: Apache-2.0
//
// CHECK, GC and STATUS.

import { acceptSilence, callPlugin } from "./call.ts";
import { type Command, command } from "./command.ts";
import { type Attachment, keyOf } from "./model.ts";
import { pick } from "./target.ts";

export function checkCommand(n: number): Command {
  const hasResult = ({ result }: Attachment) => result !== undefined;
  return command(
    `CHECK ${n}`,
    async (model, reality) => {
      const attachment = pick(model, n, hasResult) as Attachment;
      const what = `CHECK of ${keyOf(attachment)}`;
      const expected = model.expectCheck(attachment);
      const finished = await callPlugin(reality, "CHECK", attachment, { conf: { prevResult: attachment.result } });
      return `${keyOf(attachment)}: ${acceptSilence(model, what, finished, expected)}`;
    },
    (model) => pick(model, n, hasResult) !== undefined,
  );
}

/** @param kept which of the attachments are valid, by their places, again from the first after the last */
export function gcCommand(kept: readonly boolean[]): Command {
  return command(`GC (valid: ${kept.map(Number).join("")})`, async (model, reality) => {
    const valid = [...model.attachments.values()].filter((_, i) => kept[i % kept.length]);
    const list = valid.map(({ containerId, ifname }) => ({ containerID: containerId, ifname }));
    const conf = { "cni.dev/valid-attachments": [...list, { containerID: "stranger", ifname: "eth0" }] };
    const finished = await callPlugin(reality, "GC", undefined, { conf });
    const outcome = acceptSilence(model, "GC", finished, [model.daemonUp ? "success" : { code: 11 }]);
    if (finished.status === 0) model.collected(new Set(valid.map(keyOf)));
    return outcome;
  });
}

export const statusCommand = () =>
  command("STATUS", async (model, reality) => {
    const expected = model.expectStatus();
    return acceptSilence(model, "STATUS", await callPlugin(reality, "STATUS", undefined, {}), expected);
  });
