// SPDX-License-Identifier: Apache-2.0
//
// kill -9 of the plugin and of the daemon at any point, then what a runtime does next, then what has to hold: no address
// has two holders, the store knows every address that was reported, and after a DEL nothing is left.

import { spawnSync } from "node:child_process";
import { readdirSync, utimesSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import { Cleanup, type Finished, runToEnd, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import {
  addressesOf,
  cniEnvironment,
  createPod,
  failureOf,
  type Pod,
  pluginCommand,
  resultOf,
} from "../helpers/plugin.ts";

const POD_CIDRS = ["10.77.1.0/24", "fd00:77:1::/64"];

/** How many moments a verb is killed at, where it is killed by the clock. */
const MOMENTS = 30;

/** The system calls by which the plugin changes anything outside itself, and those that lead there. */
const STEPS = ["socket", "connect", "setns", "write", "fsync", "rename", "unlink"];

type Verb = "ADD" | "DEL";

/** Runs a verb and kills it at a point, each time a later one. Says "past" when it has come to the last of them. */
type Kill = (node: FlatnetNode, verb: Verb, pod: Pod) => Promise<{ point: string; past: boolean }>;

/** At moments from the start to a little after the usual end. Needs nothing, and hits the runtime's own start as well. */
function killAtMoments(): Kill {
  const usualMs = { ADD: 24, DEL: 40 };
  let n = 0;
  return async (node, verb, pod) => {
    const afterMs = Math.round((usualMs[verb] * ++n) / MOMENTS);
    await runWithPlugin([], node, verb, pod, afterMs);
    return { point: `after ${afterMs} ms`, past: n === MOMENTS };
  };
}

/** Before each system call that matters: the first socket, the second, …, the first connect, … Needs strace(1). */
function killAtSteps(): Kill {
  let step = 0;
  let n = 0;
  return async (node, verb, pod) => {
    const point = `${STEPS[step]}:signal=SIGKILL:when=${++n}`;
    const strace = ["strace", "-f", "-qqq", "-o", "/dev/null", "-e", `inject=${point}`];
    const { status } = await runWithPlugin(strace, node, verb, pod);
    if (status !== null) [step, n] = [step + 1, 0];
    return { point, past: step === STEPS.length };
  };
}

function runWithPlugin(prefix: string[], node: FlatnetNode, verb: Verb, pod: Pod, timeoutMs = 60_000) {
  const argv = [...prefix, ...pluginCommand(node.netns)];
  const env = { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", ...cniEnvironment(verb, pod) };
  return runToEnd(argv, { env, input: node.conf(), timeoutMs });
}

function canStrace(): boolean {
  // Some sandboxes have it but forbid ptrace(2).
  if (spawnSync("strace", ["-qqq", "-o", "/dev/null", "true"]).status === 0) return true;
  process.stderr.write("skipped: to kill a plugin at every step needs strace; it is killed by the clock only\n");
  return false;
}

const KILLS: [string, () => Kill][] = [["at any moment", killAtMoments]];
if (canStrace()) KILLS.push(["before each of its steps", killAtSteps]);

describe.runIf(canUseKernel()).each(KILLS)("a plugin that is killed %s", (_where, createKill) => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  let pod: Pod;

  beforeAll(async () => {
    node = await createNode("crash", cleanup, { podCidrs: POD_CIDRS });
    await node.start();
    pod = await createPod("pod", cleanup);
  });

  afterEach(async () => {
    await node.delAll();
  });

  afterAll(() => cleanup.run());

  /** Kills a verb at one point after the other, each time between `before` and `after`. */
  async function killEverywhere(verb: Verb, before: () => Promise<void>, after: (point: string) => Promise<void>) {
    const kill = createKill();
    for (let past = false; !past; ) {
      await before();
      const killed = await kill(node, verb, pod);
      await after(killed.point);
      past = killed.past;
    }
  }

  const nothing = async () => {};

  /** DEL as a runtime does it after whatever happened, and what is left then. */
  async function delLeavesNothing(point: string): Promise<void> {
    const deleted = await node.del(pod);
    expect({ point, deleted, ...(await node.traces()), inPod: await linksIn(pod) }).toEqual({
      point,
      deleted: { status: 0, stdout: "", stderr: "" },
      ...NO_TRACES,
      inPod: [],
    });
  }

  test("during ADD leaves nothing once DEL has been there", async () => {
    await killEverywhere("ADD", nothing, delLeavesNothing);
  });

  test("during ADD, and ADD comes again: it succeeds, or the first one was finished", async () => {
    await killEverywhere("ADD", nothing, async (point) => {
      const again = await node.add(pod);
      if (again.status !== 0) expect({ point, code: failureOf(again).code }).toEqual({ point, code: 101 });
      const { allocations } = await node.allocations();
      const traces = await node.traces();
      expect({ point, ...traces }).toMatchObject({
        point,
        links: allocations.map(({ hostIfname }) => hostIfname),
        routes: traces.records,
        journal: [],
      });
      expect(traces.links).toHaveLength(1);
      const [{ addr_info }] = JSON.parse(await pod.netns.ip("-json", "address", "show", "eth0"));
      const local = addr_info.map((address: { local: string }) => address.local);
      expect({ point, local }).toEqual({ point, local: expect.arrayContaining([...traces.records]) });
      await delLeavesNothing(point);
    });
  });

  test("during DEL leaves nothing once DEL has come again", async () => {
    const attach = async () => {
      resultOf(await node.add(pod));
    };
    await killEverywhere("DEL", attach, delLeavesNothing);
  });

  test("during DEL with the daemon down leaves nothing once DEL has come again and the daemon is back", async () => {
    const own = new Cleanup();
    const pods: Pod[] = [];
    try {
      for (let i = 0; i < MOMENTS; i++) {
        const one = await createPod("pod", own);
        resultOf(await node.add(one));
        pods.push(one);
      }
      await node.stop();
      const kill = createKill();
      for (const one of pods) {
        const { point, past } = await kill(node, "DEL", one);
        expect({ point, ...(await node.del(one)) }).toMatchObject({ point, status: 0, stdout: "" });
        if (past) break;
      }
      for (const one of pods) await node.del(one);
      expect(await node.tracesWithoutDaemon()).toMatchObject({ links: [], routes: [] });
      // What a killed plugin had begun to write is old by the time anybody may take it away.
      for (const name of readdirSync(node.journalDir).filter((entry) => entry.startsWith("."))) {
        utimesSync(join(node.journalDir, name), 0, 0);
      }
      await node.start();
      expect(await node.traces()).toEqual(NO_TRACES);
    } finally {
      await own.run();
    }
  });
});

/** What a pod's namespace has beside its loopback. */
async function linksIn(pod: Pod): Promise<string[]> {
  const links: { ifname: string }[] = JSON.parse(await pod.netns.ip("-json", "link"));
  return links.map(({ ifname }) => ifname).filter((name) => name !== "lo");
}

describe.runIf(canUseKernel())("a daemon that is killed", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  let pods: Pod[];

  beforeAll(async () => {
    node = await createNode("crash", cleanup, { podCidrs: POD_CIDRS });
    pods = await Promise.all(Array.from({ length: 24 }, () => createPod("pod", cleanup)));
  });

  afterEach(async () => {
    await node.stop();
  });

  afterAll(() => cleanup.run());

  /** Runs a verb for every pod, eight at a time, and kills and restarts the daemon when so many have ended. */
  async function burst(run: (pod: Pod, i: number) => Promise<Finished>, killAfter: number): Promise<Finished[]> {
    const finished: Finished[] = [];
    const waiting = [...pods.entries()];
    let ended = 0;
    let restarted: Promise<unknown> | undefined;
    const worker = async () => {
      for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) {
        const [i, pod] = next;
        finished[i] = await run(pod, i);
        if (++ended === killAfter) restarted = node.stop("SIGKILL").then(() => node.start());
      }
    };
    await Promise.all(Array.from({ length: 8 }, worker));
    await restarted;
    return finished;
  }

  test.each([1, 5, 10, 16])("after %d of 24 ADDs: every address that was reported is held, once", async (killAfter) => {
    await node.start();
    // Half of them give up at once when nobody is there; the others wait for the daemon to be back.
    const finished = await burst((pod, i) => node.add(pod, { connectWaitMs: i % 2 === 0 ? 0 : 9_000 }), killAfter);

    const reported = new Map<string, string[]>();
    for (const [i, pod] of pods.entries()) {
      const added = finished[i] as Finished;
      if (added.status === 0) reported.set(pod.containerId, addressesOf(resultOf(added)));
      else expect(failureOf(added)).toMatchObject({ code: 11 });
    }
    const { allocations } = await node.allocations();
    const held = new Map(allocations.map(({ attachment, addresses }) => [attachment?.containerId ?? "", addresses]));
    for (const [containerId, addresses] of reported) expect(held.get(containerId)).toEqual(addresses);
    const all = [...held.values()].flat();
    expect(new Set(all).size).toBe(all.length);

    for (const pod of pods) {
      if (!reported.has(pod.containerId)) expect(await node.del(pod)).toMatchObject({ status: 0, stdout: "" });
    }
    const addresses = [...reported.values()].flat().sort();
    const traces = await node.traces();
    expect({ ...traces, links: traces.links.length }).toEqual({
      links: reported.size,
      routes: addresses,
      records: addresses,
      journal: [],
    });
    for (const pod of pods) await node.del(pod);
    expect(await node.traces()).toEqual(NO_TRACES);
  });

  test.each([1, 8, 16])("after %d of 24 DELs: all succeed, and nothing is left", async (killAfter) => {
    await node.start();
    for (const pod of pods) resultOf(await node.add(pod));
    const finished = await burst((pod) => node.del(pod), killAfter);
    for (const deleted of finished) expect(deleted).toMatchObject({ status: 0, stdout: "" });
    // A note that came while the daemon was starting is worked off soon after.
    await waitFor(async () => (await node.tracesWithoutDaemon()).journal.length === 0);
    expect(await node.traces()).toEqual(NO_TRACES);
  });
});
