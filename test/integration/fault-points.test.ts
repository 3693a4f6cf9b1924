// SPDX-License-Identifier: Apache-2.0
//
// The steps at which the torture test ends the programs are in its own build and nowhere else.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { beforeAll, describe, expect, test } from "vitest";
import { buildAll, FAULTS_DIST } from "../../scripts/build.ts";
import { hostArch } from "../../scripts/pack/runtimes.ts";
import { ROOT } from "../../scripts/repo.ts";
import { DAEMON_FAULTS, PLUGIN_FAULTS } from "../../src/net/fault.ts";
import { built } from "../helpers/plugin.ts";

/** A program as text. The bundler breaks long lines wherever it is, within strings too: backslash, line end. */
function textOf(path: string): string {
  return readFileSync(path, "latin1").replaceAll("\\\n", "");
}

beforeAll(() => buildAll(hostArch(), false, () => {}, "faults"));

describe.each([
  ["flatnet", PLUGIN_FAULTS],
  ["flatnetd", DAEMON_FAULTS],
] as const)("%s", (program, points) => {
  test("has every fault point in the fault build", () => {
    const text = textOf(join(ROOT, FAULTS_DIST, program));
    expect(points.filter((name) => !text.includes(name))).toEqual([]);
  });

  test("has none in the release build, nor what arms them", () => {
    const text = textOf(built(program));
    const words = [...points, "faultPoint", "FLATNET_FAULTS", "FLATNET_CLOCK"];
    expect(words.filter((word) => text.includes(word))).toEqual([]);
  });
});
