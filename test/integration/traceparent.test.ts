// SPDX-License-Identifier: Apache-2.0
//
// The runtime's trace, in both logs.

import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { newPod, SILENCE, useNode, V4 } from "../helpers/attachments.ts";
import { startDaemon, waitFor } from "../helpers/daemon.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { failureOf, resultOf } from "../helpers/plugin.ts";

describe.runIf(canUseKernel())("TRACEPARENT", () => {
  const node = useNode("trace", [V4]);
  const TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

  test("is a header of the call to the daemon", async () => {
    const socket = join(node().directory, "listener.sock");
    const script = `const server = require("net").createServer((s) => s.on("data", (d) => {
      process.stdout.write(d.toString("latin1")); s.destroy(); }));
      server.listen(${JSON.stringify(socket)}, () => console.log("ready"))`;
    const argv = [process.execPath, "-e", script];
    const listener = await startDaemon({ argv, ready: (output) => output.includes("ready") });
    onTestFinished(() => listener.stop("SIGKILL").then(() => {}));
    const conf = { socket, connectWaitMs: 0 };
    failureOf(await node().run("ADD", await newPod(), { env: { TRACEPARENT }, conf }));
    await waitFor(() => listener.output().includes(`traceparent7${TRACEPARENT}`));
  });

  test("is in what a failing plugin says on stderr", async () => {
    const pod = await newPod();
    const finished = await node().run("ADD", pod, { env: { TRACEPARENT }, conf: { mtu: "x" } });
    expect(finished.stderr).toBe(
      `flatnet ADD traceparent=${TRACEPARENT}: invalid network configuration: mtu is "x", not a whole number from 0 to 65535\n`,
    );
  });

  test("that is malformed is not passed on", async () => {
    const pod = await newPod();
    const env = { TRACEPARENT: `${TRACEPARENT}\nx: y` };
    const finished = await node().run("ADD", pod, { env, conf: { mtu: "x" } });
    expect(finished.stderr).toMatch(/^flatnet ADD: /);
    resultOf(await node().run("ADD", pod, { env }));
    await node().del(pod);
  });

  test("is in the daemon's log line of the request", async () => {
    const pod = await newPod();
    resultOf(await node().run("ADD", pod, { env: { TRACEPARENT } }));
    expect(await node().run("DEL", pod, { env: { TRACEPARENT } })).toEqual(SILENCE);
    expect(node().log()).toContainEqual(expect.objectContaining({ traceparent: TRACEPARENT }));
  });
});
