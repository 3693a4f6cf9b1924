// SPDX-License-Identifier: Apache-2.0
//
// The built daemon on a database that was damaged while it was down, and the built plugin's pods, which are up all the time.
import { randomInt } from "node:crypto";
import { readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { Cleanup, waitFor } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode, type LogLine, NO_TRACES } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";
import { createPod, type Pod, resultOf } from "../helpers/plugin.ts";

const SUBNETS = ["10.79.1.0/28", "fd00:79:1::/64"];
const FLAGS = ["--retire-after-seconds", "1", "--cool-down-seconds", "0"];

interface Living {
  readonly pod: Pod;
  readonly addresses: readonly string[];
}

async function addPod(node: FlatnetNode, label: string, cleanup: Cleanup): Promise<Living> {
  const pod = await createPod(label, cleanup);
  const { ips } = resultOf(await node.add(pod));
  return { pod, addresses: ips.map(({ address }) => address.replace(/\/.*/, "")) };
}

/** A node with three pods, of whose records some are in a table and some in the log, and whose daemon was killed. */
async function killedNode(): Promise<{ node: FlatnetNode; cleanup: Cleanup; living: Living[] }> {
  const cleanup = new Cleanup();
  onTestFinished(() => cleanup.run());
  const node = await createNode("damage", cleanup, { podCidrs: SUBNETS, flags: FLAGS });
  await node.start();
  const living = [await addPod(node, "one", cleanup), await addPod(node, "two", cleanup)];
  await node.stop("SIGKILL");
  await node.start();
  living.push(await addPod(node, "three", cleanup));
  await node.stop("SIGKILL");
  return { node, cleanup, living };
}

/** No two have one address, those that live keep theirs, and their DELs give them back. */
async function expectNothingGivenTwice(node: FlatnetNode, living: readonly Living[], cleanup: Cleanup): Promise<void> {
  const fresh: Living[] = [];
  for (let i = 0; i < 3; i++) fresh.push(await addPod(node, `new${i}`, cleanup));
  const all = [...living, ...fresh].flatMap(({ addresses }) => addresses);
  expect(new Set(all).size).toBe(all.length);
  expect((await node.traces()).records).toEqual([...all].sort());
  for (const { pod } of [...living, ...fresh]) expect(await node.del(pod)).toMatchObject({ status: 0, stderr: "" });
  expect(await node.traces()).toEqual(NO_TRACES);
}

function errors(node: FlatnetNode): LogLine[] {
  return node.log().filter(({ level }) => level === "error");
}

function movedAside(node: FlatnetNode): string[] {
  return readdirSync(node.stateDir).filter((name) => name.startsWith("ipam.db.damaged-"));
}

type Damage = (path: string, seed: number) => void;

/** Overwrites up to 64 bytes of a file, where the seed says. */
const overwrite =
  (pattern: RegExp): Damage =>
  (path, seed) => {
    const names = readdirSync(path).filter((name) => pattern.test(name));
    const file = join(path, names.sort()[seed % names.length] as string);
    const bytes = readFileSync(file);
    const start = seed % bytes.length;
    for (let i = start; i < Math.min(start + 64, bytes.length); i++)
      bytes[i] = (bytes[i] as number) ^ (1 + (seed % 255));
    writeFileSync(file, bytes);
  };

const remove =
  (pattern: RegExp): Damage =>
  (path) => {
    for (const name of readdirSync(path)) if (pattern.test(name)) rmSync(join(path, name));
  };

describe.runIf(canUseKernel())("a daemon whose database is damaged", () => {
  test.for<[title: string, damage: Damage]>([
    ["bytes of its log are overwritten", overwrite(/\.log$/)],
    ["bytes of a table are overwritten", overwrite(/\.ldb$/)],
    ["bytes of its manifest are overwritten", overwrite(/^MANIFEST/)],
    ["CURRENT is gone", remove(/^CURRENT$/)],
    ["its tables are gone", remove(/\.ldb$/)],
    [
      "its manifest is cut off at its beginning",
      (path) => {
        for (const name of readdirSync(path)) if (name.startsWith("MANIFEST")) truncateSync(join(path, name), 3);
      },
    ],
  ])("serves on, with every pod's address its own: %s", async ([, damage]) => {
    const { node, cleanup, living } = await killedNode();
    const seed = randomInt(1_000_000);
    damage(join(node.stateDir, "ipam.db"), seed);
    await node.start();
    // The seed is in whatever fails.
    const said = errors(node).map(({ msg }) => `${msg}`);
    expect({ seed, said }).toMatchObject({
      said: expect.arrayContaining([expect.stringContaining("the database is damaged")]),
    });
    expect(errors(node).find(({ movedTo }) => movedTo !== undefined)).toMatchObject({
      movedTo: join(node.stateDir, movedAside(node)[0] as string),
    });
    await expectNothingGivenTwice(node, living, cleanup);
    // Nothing of it is left to mend.
    await node.stop();
    await node.start();
    expect(errors(node)).toEqual([]);
    expect(movedAside(node).length).toBe(1);
  });

  test.for<[title: string, damage: (node: FlatnetNode) => void]>([
    ["the database is gone", ({ stateDir }) => rmSync(join(stateDir, "ipam.db"), { recursive: true })],
    [
      "all its data is gone",
      ({ stateDir }) => {
        for (const name of readdirSync(join(stateDir, "ipam.db"))) rmSync(join(stateDir, "ipam.db", name));
      },
    ],
    [
      "its log is empty",
      ({ stateDir }) => {
        for (const name of readdirSync(join(stateDir, "ipam.db")))
          if (name.endsWith(".log")) truncateSync(join(stateDir, "ipam.db", name), 0);
      },
    ],
  ])("keeps the addresses of the pods that it sees, and says so: %s", async ([, damage]) => {
    const { node, cleanup, living } = await killedNode();
    damage(node);
    await node.start();
    const lost = errors(node).filter(({ msg }) => `${msg}`.startsWith("the database doesn't know this link"));
    expect(lost.length).toBeGreaterThan(0);
    const known = living.map(({ addresses }) => addresses);
    for (const { addresses, hostIfname } of lost) {
      expect(known).toContainEqual(addresses);
      expect(hostIfname).toMatch(/^fl/);
    }
    await expectNothingGivenTwice(node, living, cleanup);
  });

  test("gives up what was recovered of pods that end without a DEL, and knows a pod that is added again", async () => {
    const { node, living } = await killedNode();
    rmSync(join(node.stateDir, "ipam.db"), { recursive: true });
    const [ending, again] = living as [Living, Living];
    const linkOf = async ({ addresses }: Living) => {
      const { allocations } = await node.allocations();
      return allocations.find((one) => one.addresses[0] === addresses[0])?.hostIfname ?? "";
    };
    await node.start("--retire-after-seconds", "0");
    await node.netns.ip("link", "del", await linkOf(again));
    const { ips } = resultOf(await node.add(again.pod));
    expect(ips.map(({ address }) => address.replace(/\/.*/, ""))).toEqual(again.addresses);
    await node.stop();
    await node.start();
    // As when a namespace ends: the kernel takes the link, and nobody says a word.
    await node.netns.ip("link", "del", await linkOf(ending));
    await waitFor(async () => !(await node.traces()).records.includes(ending.addresses[0] as string));
    for (const { pod } of living) expect((await node.del(pod)).status).toBe(0);
    expect(await node.traces()).toEqual(NO_TRACES);
  });
});
