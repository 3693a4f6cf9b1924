// SPDX-License-Identifier: Apache-2.0
//
// The cache on a disk that is full: a file system of its own, which takes root.
import { cpSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, onTestFinished, test } from "vitest";
import { HandMade } from "../../test/helpers/collection.ts";
import { Cleanup, run } from "../../test/helpers/daemon.ts";
import { canUseKernel } from "../../test/helpers/netns.ts";
import { CACHE_NAME, KubeCache } from "./cache.ts";
import { NAMESPACES } from "./cached-kinds.ts";
import type { KubeNamespace } from "./objects.ts";

const many = (prefix: string, count: number) =>
  Object.fromEntries(Array.from({ length: count }, (_, i) => [`${prefix}-${i}`, namespaceOf(`${prefix}-${i}`)]));

/** Labels that don't compress. */
function namespaceOf(name: string): KubeNamespace {
  return { name, labels: { text: Array.from({ length: 20 }, () => Math.random().toString(36)).join("") } };
}

describe.runIf(canUseKernel())("a cache on a full disk", () => {
  test("keeps what it had, whatever is tried, and has all that is known once there is room", async () => {
    const cleanup = new Cleanup();
    onTestFinished(() => cleanup.run());
    const stateDir = mkdtempSync(join(tmpdir(), "flatnet-kube-"));
    cleanup.add(() => rmSync(stateDir, { recursive: true }));
    await run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", stateDir]);
    cleanup.add(() => run(["umount", stateDir]));
    const elsewhere = mkdtempSync(join(tmpdir(), "flatnet-kube-"));
    cleanup.add(() => rmSync(elsewhere, { recursive: true }));
    const said: string[] = [];
    const say = (_: object, message: string) => said.push(message);
    const cache = await KubeCache.open(stateDir, { warn: say, error: say }, { settleMs: 0, retryMs: 50 });
    cleanup.add(() => cache.close());
    const names = async (cache: KubeCache) => [...((await cache.restore(NAMESPACES))?.objects.keys() ?? [])].sort();

    const namespaces = new HandMade<KubeNamespace>();
    cache.keep(NAMESPACES, namespaces);
    namespaces.set(many("first", 20));
    const first = Object.keys(many("first", 20)).sort();
    await expect.poll(() => names(cache)).toEqual(first);

    const filler = join(stateDir, "filler");
    expect(() => writeFileSync(filler, Buffer.alloc(4 << 20))).toThrow("ENOSPC");
    namespaces.set({ ...many("second", 200), "first-0": undefined });
    await expect.poll(() => said).toContain("what is learned of Kubernetes can't be kept on disk; it is tried again");
    // It is tried again and again meanwhile.
    await sleep(300);
    cpSync(join(stateDir, CACHE_NAME), join(elsewhere, CACHE_NAME), { recursive: true });
    const copy = await KubeCache.open(elsewhere, { warn: say, error: say });
    expect((await names(copy)).filter((name) => name.startsWith("first"))).toEqual(first);
    await copy.close();

    rmSync(filler);
    const known = [...namespaces.objects.keys()].sort();
    await expect.poll(() => names(cache), { timeout: 10_000 }).toEqual(known);
    namespaces.set({ third: namespaceOf("third") });
    await expect.poll(() => names(cache), { timeout: 10_000 }).toContain("third");
    expect(said).toHaveLength(2);
  });
});
