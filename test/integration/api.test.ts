// SPDX-License-Identifier: Apache-2.0
//
// The API as docs/api.md describes it: its commands are run as they stand there, by a client that knows the daemon by
// server reflection alone.

import { readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { ROOT, toolEnv } from "../../scripts/repo.ts";
import { IpamServiceDefinition } from "../../src/gen/flatnet/ipam/v1/ipam.ts";
import { PolicyServiceDefinition } from "../../src/gen/flatnet/policy/v1/policy.ts";
import { Cleanup, type Finished, runToEnd } from "../helpers/daemon.ts";
import { createNode, type FlatnetNode } from "../helpers/flatnet-node.ts";
import { canUseKernel } from "../helpers/netns.ts";

const DOCUMENT = readFileSync(join(ROOT, "docs/api.md"), "utf8");
const SERVICES = [IpamServiceDefinition, PolicyServiceDefinition];
const METHODS = SERVICES.flatMap(({ fullName, methods }) =>
  Object.values(methods).map(({ name }) => ({ name, path: `${fullName}/${name}` })),
);

/** The indented blocks of a section, without their indent. */
function blocksOf(section: string): string[] {
  const text = DOCUMENT.split(/^## /m).find((part) => part.startsWith(section)) ?? "";
  const blocks = text.match(/(?:^ {4}.*\n|^\n(?= {4}))+/gm) ?? [];
  return blocks.map((block) => block.replace(/^ {4}/gm, "").trim());
}

test("every method is documented", () => {
  const rows = [...DOCUMENT.matchAll(/^\| `(\w+)` \|/gm)].map(([, name]) => name);
  expect(rows.sort()).toEqual(METHODS.map(({ name }) => name).sort());
});

describe.runIf(canUseKernel())("the documented API", () => {
  const cleanup = new Cleanup();
  let node: FlatnetNode;
  beforeAll(async () => {
    node = await createNode("api", cleanup, { podCidrs: ["10.244.1.0/24"] });
    await node.start();
  });
  afterAll(() => cleanup.run());

  const here = (text: string) => text.replaceAll("/run/flatnet/flatnetd.sock", node.socket);
  /** Runs a script in the repository. buf keeps what it may keep in a directory of the test. */
  function runScript(script: string): Promise<Finished> {
    const path = `${toolEnv()["PATH"]}`;
    const env = { PATH: path, HOME: node.directory };
    return runToEnd(["bash", "--norc", "-euc", `cd ${ROOT}; ${here(script)}`], { env });
  }

  test("commands by hand work as written: a client finds all methods by reflection, and calls them", async () => {
    const [look, walk] = blocksOf("By hand") as [string, string];
    const looked = await runScript(look);
    expect(looked).toMatchObject({ status: 0, stderr: "" });
    for (const { path } of METHODS) expect(looked.stdout).toContain(`${path}\n`);
    expect(looked.stdout).toContain('"cidr": "10.244.1.0/24"');
    const walked = await runScript(`${look.split("\n")[0]}\n${walk}`);
    expect(walked).toMatchObject({ status: 0, stderr: "" });
    for (const text of ['"10.244.1.1"', '"by-hand"', '"restsUntilMs"', '"cause": "del"']) {
      expect(walked.stdout).toContain(text);
    }
    expect((await node.allocations()).allocations).toEqual([]);
  });

  test("a client that knows the older reflection only finds the methods too", async () => {
    const [first = ""] = (blocksOf("By hand")[0] ?? "").split("\n");
    const { stdout } = await runScript(`${first}\napi --reflect-protocol grpc-v1alpha --list-services http://flatnetd`);
    expect(stdout).toContain(`${IpamServiceDefinition.fullName}\n`);
  });

  test("the program works as written", async () => {
    const [program = ""] = blocksOf("From a program");
    // Beside the sources, where it says that it is.
    const path = join(ROOT, `example-${process.pid}.ts`);
    onTestFinished(() => rmSync(path, { force: true }));
    writeFileSync(path, here(program));
    expect(await runToEnd([process.execPath, path])).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^10\.244\.1\.0\/24: \d+ free\n$/),
      stderr: "",
    });
  });
});
