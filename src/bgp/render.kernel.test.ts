// SPDX-License-Identifier: Apache-2.0
//
// What BIRD itself says to what is rendered for it.
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { canUseKernel } from "../../test/helpers/netns.ts";
import { renderBird, renderRelease, renderRemoval } from "./render.ts";
import { type BgpNode, planSessions } from "./sessions.ts";
import { readPassword } from "./settings.ts";
import { node, settings } from "./testing/cluster.ts";

let folder: string;

async function check(config: string): Promise<string> {
  const path = join(folder, "bird.conf");
  await writeFile(path, config);
  return await promisify(execFile)("/usr/sbin/bird", ["-p", "-c", path]).then(
    () => "",
    (error: { stderr: string }) => `${error.stderr}\n${config}`,
  );
}

const families = fc.constantFrom<readonly (4 | 6)[]>([4], [6], [4, 6], []);
const nodes = fc.array(families, { minLength: 1, maxLength: 6 }).map((list) => list.map((f, i) => node(i + 1, f)));
const password = fc
  .string({ unit: "grapheme-ascii", minLength: 1, maxLength: 80 })
  .filter((text) => readPassword(text) === text);
const peers = fc.uniqueArray(fc.constantFrom("172.31.0.253", "172.31.0.254", "fd00:31::fe", "fd00:31::1:fd"));

describe.runIf(canUseKernel())("BIRD", () => {
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "flatnet-bird-"));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test("takes every configuration that is rendered", async () => {
    const cases = fc.record({
      nodes,
      password,
      addresses: peers,
      bfd: fc.boolean(),
      asn: fc.constantFrom(64_512, 64_513, 4_200_000_000),
      reflectors: fc.subarray(["node-1", "node-2", "node-9"]),
    });
    await fc.assert(
      fc.asyncProperty(cases, async (some) => {
        const written = {
          bfd: some.bfd,
          passwordFile: "/p",
          reflectors: some.reflectors,
          peers: some.addresses.map((address) => ({ address, asn: some.asn, passwordFile: "/p" })),
        };
        const used = settings(written);
        const self = some.nodes[0] as BgpNode;
        const config = renderBird({
          routerId: "192.0.2.1",
          asn: used.asn,
          subnets: self.podCIDRs,
          sessions: planSessions(used, self, some.nodes).sessions,
          passwords: new Map([["/p", some.password]]),
          table: 254,
          log: join(folder, "bird.log"),
        });
        expect(await check(config)).toBe("");
        expect(await check(renderRelease(config))).toBe("");
      }),
      { numRuns: 40 },
    );
  });

  test("takes the configuration with which it ends", async () => {
    expect(await check(renderRemoval(254))).toBe("");
  });
});
