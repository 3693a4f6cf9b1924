// SPDX-License-Identifier: Apache-2.0
//
// A lab's namespaces and its folder, made and removed, with what lives in them.
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { afterEach, describe, expect, test } from "vitest";
import { Cleanup, run, runToEnd, startDaemon } from "../../test/helpers/daemon.ts";
import { canUseKernel } from "../../test/helpers/netns.ts";
import { makeNetwork } from "./network.ts";
import { labDir, readState, writeState } from "./state.ts";
import { isAnythingLeft, listNamespaces, sweep } from "./sweep.ts";
import { namespacesOf, planTopology } from "./topology.ts";

const cleanup = new Cleanup();

/** A name that no other lab has, whose lab is removed after the test. */
function uniqueName(): string {
  const name = `t-${randomBytes(3).toString("hex")}`;
  cleanup.add(() => sweep(name));
  return name;
}

describe.runIf(canUseKernel())("a lab's network", () => {
  afterEach(() => cleanup.run());

  test("joins the nodes in both families, and makes no link on the host", async () => {
    const before = await run(["ip", "-br", "link"]);
    const topology = planTopology({ name: uniqueName(), nodes: 3, pods: 1, family: "dual" });
    await makeNetwork(topology);
    expect(await listNamespaces(topology.name)).toEqual(namespacesOf(topology).sort());
    const [first, , third] = topology.nodes;
    for (const address of third?.addresses ?? []) {
      const shell = `exec 3<>/dev/tcp/${address}/9`;
      const { stderr } = await runToEnd(["ip", "netns", "exec", first?.namespace ?? "", "bash", "-c", shell]);
      // Nobody listens there; that it is refused shows that the node is reached.
      expect(stderr).toContain("Connection refused");
    }
    const lo = await run(["ip", "-n", first?.pods[0]?.namespace ?? "", "-br", "link", "show", "lo"]);
    expect(lo).toContain("UP");
    expect(await run(["ip", "-br", "link"])).toBe(before);
  });

  test("has no address that is not usable yet, so that nodes forward at once", async () => {
    const topology = planTopology({ name: uniqueName(), nodes: 2, pods: 1, family: "dual" });
    await makeNetwork(topology);
    for (const { namespace } of topology.nodes) {
      expect(await run(["ip", "-n", namespace, "address", "show", "tentative"])).toBe("");
      expect(await run(["ip", "-n", namespace, "-6", "address", "show", "dev", "eth0", "scope", "link"])).toContain(
        "fe80::",
      );
    }
  });

  test("is removed with stubborn processes in it, without any state, and with nothing of another lab", async () => {
    const name = uniqueName();
    const other = `${name}-2`;
    cleanup.add(() => sweep(other));
    const [mine, others] = [name, other].map((lab) => planTopology({ name: lab, nodes: 1, pods: 1, family: "v4" }));
    if (mine === undefined || others === undefined) throw new Error("no topology");
    await makeNetwork(mine);
    await makeNetwork(others);
    await mkdir(join(labDir(name), "node1"), { recursive: true });
    const stubborn = await startDaemon({
      argv: ["ip", "netns", "exec", mine.nodes[0]?.namespace ?? "", "sh", "-c", "trap '' TERM; echo up; read forever"],
      ready: (output) => output.includes("up"),
    });
    cleanup.add(() => stubborn.stop("SIGKILL"));

    await sweep(name);

    expect(await stubborn.exited).toBeNull();
    expect(await isAnythingLeft(name)).toBe(false);
    expect(existsSync(labDir(name))).toBe(false);
    expect(await listNamespaces(other)).toEqual(namespacesOf(others).sort());
  });

  test("that is not there is removed without complaint, again and again", async () => {
    const name = uniqueName();
    expect(await isAnythingLeft(name)).toBe(false);
    await sweep(name);
    await sweep(name);
  });
});

describe.runIf(canUseKernel())("a lab's state", () => {
  afterEach(() => cleanup.run());

  test("is read as it was written", async () => {
    const topology = planTopology({ name: uniqueName(), nodes: 2, pods: 1, family: "v6" });
    expect(await readState(topology.name)).toBeUndefined();
    await writeState({ version: 2, kept: true, topology });
    expect(await readState(topology.name)).toEqual({ version: 2, kept: true, topology });
  });

  test.each(["", "null", "{", '{"version":1,"kept":true}', '{"version":3,"kept":true}'])(
    "that is not ours is refused: %j",
    async (text) => {
      const name = uniqueName();
      await mkdir(labDir(name), { recursive: true });
      await writeFile(join(labDir(name), "lab.json"), text);
      await expect(readState(name)).rejects.toMatchObject({ code: "LAB_STATE_INVALID" });
    },
  );
});
