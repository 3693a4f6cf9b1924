// SPDX-License-Identifier: Apache-2.0
//
// The built daemon and plugin on a disk that fills up, is made read-only, or doesn't answer. The disk is a small tmpfs of the
// test's own.
import { existsSync, mkdirSync, rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Cleanup, run, runToEnd, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { createPod, type Pod, resultOf } from "../helpers/plugin.ts";

/** A node whose state is on a disk of half a megabyte. */
async function nodeOnSmallDisk(...flags: string[]): Promise<{ node: FlatnetNode; cleanup: Cleanup }> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  const node = await createNode("disk", cleanup, { podCidrs: ["10.80.1.0/24"], flags });
  mkdirSync(node.stateDir, { recursive: true });
  await run(["mount", "-t", "tmpfs", "-o", "size=512k,mode=0700", "flatnet-test", node.stateDir]);
  cleanup.add(() => run(["umount", "--lazy", node.stateDir]));
  cleanup.add(() => node.stop("SIGKILL"));
  await node.start();
  return { node, cleanup };
}

function fill(node: FlatnetNode): void {
  const { bavail, bsize } = statfsSync(node.stateDir);
  writeFileSync(join(node.stateDir, "ballast"), Buffer.alloc(bavail * bsize));
}

function makeRoom(node: FlatnetNode): void {
  rmSync(join(node.stateDir, "ballast"));
}

/** Adds and deletes until an ADD is refused: the last page of LevelDB's log has room for some. @returns the error */
async function addUntilRefused(node: FlatnetNode, pod: Pod): Promise<{ code: number; details: string }> {
  for (let i = 0; i < 500; i++) {
    const { status, stdout } = await node.add(pod);
    if (status !== 0) return JSON.parse(stdout);
    await node.del(pod);
  }
  throw new Error("no ADD was refused");
}

describe.runIf(canUseKernel())("a daemon", () => {
  test("whose disk is full refuses ADDs with path and reason, loses nothing, and goes on when there is room", async () => {
    const { node, cleanup } = await nodeOnSmallDisk();
    const [kept, pod] = [await createPod("kept", cleanup), await createPod("pod", cleanup)];
    const { ips } = resultOf(await node.add(kept));
    fill(node);
    const refusal = await addUntilRefused(node, pod);
    expect(refusal).toMatchObject({ code: 11, details: expect.stringContaining(join(node.stateDir, "ipam.db")) });
    expect(refusal.details).toMatch(/No space left on device/);
    // It says so as long as it is so.
    expect(await node.run("STATUS", pod)).toMatchObject({ status: 1 });
    expect(JSON.parse((await node.add(pod)).stdout)).toMatchObject({ code: 11 });
    expect((await node.tracesWithoutDaemon()).links.length).toBe(1);
    makeRoom(node);
    const added = resultOf(await node.add(pod));
    expect(added.ips).not.toEqual(ips);
    expect((await node.run("STATUS", pod)).status).toBe(0);
    expect((await node.traces()).records.length).toBe(2);
    await node.stop("SIGKILL");
    await node.start();
    expect((await node.traces()).records).toEqual(
      [...ips, ...added.ips].map(({ address }) => address.split("/")[0]).sort(),
    );
    for (const one of [kept, pod]) expect((await node.del(one)).status).toBe(0);
    expect(await node.traces()).toEqual(NO_TRACES);
  });

  test("whose disk is full ends DELs all the same, or says that the address can't be released", async () => {
    const { node, cleanup } = await nodeOnSmallDisk();
    const pod = await createPod("pod", cleanup);
    resultOf(await node.add(pod));
    fill(node);
    const other = await createPod("other", cleanup);
    await addUntilRefused(node, other);
    const { status, stdout } = await node.del(pod);
    // Neither the database nor the journal has room; the link is gone either way.
    if (status !== 0) expect(JSON.parse(stdout)).toMatchObject({ code: 11 });
    expect((await node.tracesWithoutDaemon()).links).toEqual([]);
    makeRoom(node);
    // The runtime's DEL follows an ADD that failed.
    for (const one of [pod, other]) expect((await node.del(one)).status).toBe(0);
    expect((await node.traces()).records).toEqual([]);
    // What was noted meanwhile was done by then; a note that is worked off again changes nothing.
    await node.stop();
    await node.start();
    expect(await node.traces()).toEqual(NO_TRACES);
  });

  test("whose disk is read-only refuses to start, and its database is neither damaged nor empty for it", async () => {
    const { node, cleanup } = await nodeOnSmallDisk();
    const [kept, pod] = [await createPod("kept", cleanup), await createPod("pod", cleanup)];
    resultOf(await node.add(kept));
    // Linux doesn't make it read-only under a daemon that has its files open for writing.
    const remounted = await runToEnd(["mount", "-o", "remount,ro", node.stateDir]);
    expect(remounted.status).not.toBe(0);
    await node.stop();
    await run(["mount", "-o", "remount,ro", node.stateDir]);
    const { status, stdout, stderr } = await runToEnd(node.command(...node.flags()));
    expect(status).toBe(1);
    expect(`${stdout}${stderr}`).toMatch(/Read-only file system|EROFS/);
    expect(`${stdout}${stderr}`).toContain(node.stateDir);
    await run(["mount", "-o", "remount,rw", node.stateDir]);
    expect(existsSync(join(node.stateDir, "ipam.db", "CURRENT"))).toBe(true);
    await node.start();
    resultOf(await node.add(pod));
    expect((await node.traces()).records.length).toBe(2);
    for (const one of [kept, pod]) expect((await node.del(one)).status).toBe(0);
  });

  test("that answers too late leaves nothing of an ADD that didn't wait, without a DEL", async () => {
    const { node, cleanup } = await nodeOnSmallDisk();
    const pod = await createPod("pod", cleanup);
    process.kill(node.daemon.pid, "SIGSTOP");
    cleanup.add(() => node.daemon.stop("SIGKILL"));
    const { status, stdout } = await node.add(pod, { timeoutMs: 500 });
    expect(status).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ code: 11 });
    process.kill(node.daemon.pid, "SIGCONT");
    await waitFor(async () => (await node.traces()).records.length === 0);
    expect(await node.traces()).toEqual(NO_TRACES);
    resultOf(await node.add(pod));
    expect((await node.del(pod)).status).toBe(0);
  });
});
