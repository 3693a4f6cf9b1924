// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseManifests } from "../manifests.ts";
import { ROOT } from "../repo.ts";
import { copiedFiles, IMAGE_FILES } from "./context.ts";

const dockerfile = readFileSync(join(ROOT, "Dockerfile"), "utf8");

test("the Dockerfile copies what is put before it, and nothing else", () => {
  expect([...copiedFiles(dockerfile), "Dockerfile"].sort()).toEqual(Object.keys(IMAGE_FILES).sort());
});

test("what the manifests start is in the image", () => {
  const started = ["flatnet.yaml", "uninstall.yaml"].flatMap((name) => {
    const text = readFileSync(join(ROOT, "deploy", name), "utf8");
    return parseManifests(text, name).flatMap((manifest) => commandsIn(manifest));
  });
  const programs = ["flatnet", "flatnetd"].map((name) => `/usr/local/bin/${name}`);
  const links = [...dockerfile.matchAll(/ln -s \S+ (\S+)/g)].map(([, path]) => path ?? "");
  expect(started).toContain("/usr/local/bin/flatnetd");
  for (const program of started) expect([...programs, ...links, "sleep"]).toContain(program);
});

/** The programs that a manifest's containers start. */
function commandsIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "command" && Array.isArray(inner) ? [String(inner[0])] : commandsIn(inner),
  );
}
