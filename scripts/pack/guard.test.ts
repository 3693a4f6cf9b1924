// SPDX-License-Identifier: Apache-2.0

import { expect, test } from "vitest";
import { guardPlugin } from "./guard.ts";

const OURS = ["src/bin/flatnet.ts", "src/cni/run.ts", "src/gen/flatnet/ipam/v1/ipam.ts"];
const WIRE = "node_modules/@bufbuild/protobuf/dist/esm/wire/varint.js";

test("the plugin may be made of its own files and the wire code of protobuf", () => {
  expect(() => guardPlugin([...OURS, WIRE], 40_000)).not.toThrow();
});

test.each([
  "src/ipam/allocator.ts",
  "src/agent/agent.ts",
  "src/kube/watch.ts",
  "src/lab/lab.ts",
  "scripts/repo.ts",
  "node_modules/@bufbuild/protobuf/dist/esm/reflect/reflect.js",
  "node_modules/@grpc/grpc-js/build/src/index.js",
  "../elsewhere/file.ts",
])("the plugin must not contain %s", (path) => {
  expect(() => guardPlugin([...OURS, path], 40_000)).toThrow("must not contain");
});

test("a plugin over its byte budget is refused", () => {
  expect(() => guardPlugin(OURS, 10_000_000)).toThrow("over the budget");
});

test("all reasons are told at once, a package only once", () => {
  const paths = ["node_modules/yaml/a.js", "node_modules/yaml/b.js", "src/lab/lab.ts"];
  expect(() => guardPlugin(paths, 10_000_000)).toThrow(/node_modules\/yaml\n.*src\/lab\/lab\.ts\n.*over the budget/);
});
