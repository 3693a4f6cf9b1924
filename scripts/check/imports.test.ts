// SPDX-License-Identifier: Apache-2.0

import { describe, expect, test } from "vitest";
import { importProblems } from "./imports.ts";

function problemsOf(sources: Record<string, string>): string[] {
  return importProblems(new Map(Object.entries(sources)));
}

describe("the direction of imports", () => {
  test.each([
    ["a feature imports another", "src/cni/add.ts", 'import { a } from "../ipam/a.ts";'],
    ["an adapter imports a feature", "src/netlink/a.ts", 'import type { A } from "../cni/a.ts";'],
    ["an import over several lines", "src/cni/a.ts", 'import {\n  a,\n  b,\n} from "../routes/a.ts";'],
    ["a re-export", "src/cni/a.ts", 'export * from "../policy/a.ts";'],
    ["an import for its effect", "src/cni/a.ts", 'import "../ipam/a.ts";'],
    ["an import at run time", "src/cni/a.ts", 'const a = await import("../ipam/a.ts");'],
    ["anyone imports bin", "src/agent/a.ts", 'import { a } from "../bin/a.ts";'],
    ["a source imports a test", "src/cni/a.ts", 'import { a } from "./a.test.ts";'],
    ["a source imports from outside src", "src/cni/a.ts", 'import { a } from "../../test/helpers/a.ts";'],
    ["a pure file imports a node module", "src/net/a.ts", 'import { isIP } from "node:net";'],
    ["a second file imports ip-address", "src/net/a.ts", 'import { Address4 } from "ip-address";'],
    ["the plugin imports koffi", "src/cni/a.ts", 'import koffi from "koffi";'],
    ["another file than an entry point reads the environment", "src/cni/a.ts", 'const a = host.env["A"];'],
    ["a folder nobody has placed", "src/utils/a.ts", 'import { a } from "./b.ts";'],
  ])("is broken when %s", (_what, file, text) => {
    expect(problemsOf({ [file]: `${text}\n` })).toHaveLength(1);
  });

  test.each([
    ["a feature imports an adapter", "src/cni/add.ts", 'import { a } from "../netlink/a.ts";'],
    ["a test uses a helper of the tests", "src/cni/add.test.ts", 'import { a } from "../../test/helpers/a.ts";'],
    ["a test reads the environment", "src/cni/add.test.ts", 'const a = process.env["A"];'],
    ["an entry point reads its arguments", "src/bin/flatnet.ts", "const a = process.argv;"],
    ["a comment speaks of argv", "src/cni/add.ts", "// not process.argv"],
  ])("is kept when %s", (_what, file, text) => {
    expect(problemsOf({ [file]: `${text}\n` })).toEqual([]);
  });

  test("is told with file and line, all violations at once", () => {
    const text = '// first\nimport { a } from "../ipam/a.ts";\nimport { b } from "../policy/b.ts";\nprocess.argv;\n';
    expect(problemsOf({ "src/cni/a.ts": text }).map((line) => line.split(" ")[0])).toEqual([
      "src/cni/a.ts:2",
      "src/cni/a.ts:3",
      "src/cni/a.ts:4",
    ]);
  });

  test("has no rings, and each is told once", () => {
    const ring = {
      "src/cni/a.ts": 'import { b } from "./b.ts";\n',
      "src/cni/b.ts": 'import type { c } from "./c.ts";\n',
      "src/cni/c.ts": 'import { a } from "./a.ts";\n',
    };
    expect(problemsOf(ring)).toEqual([
      "src/cni/a.ts imports itself by way of src/cni/b.ts -> src/cni/c.ts -> src/cni/a.ts",
    ]);
  });
});
