// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { parseManifests } from "../manifests.ts";
import { ROOT } from "../repo.ts";
import { copiedFiles, IMAGE_FILES, withoutChance } from "./context.ts";

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

test("a bill of materials is the same whenever it is made of the same", () => {
  const sbom = (uuid: string, created: string, version: string) =>
    JSON.stringify({
      name: "flatnet@0.1.0",
      documentNamespace: `http://spdx.org/spdxdocs/flatnet-0.1.0-${uuid}`,
      creationInfo: { created, creators: ["Tool: npm/cli-11.19.1"] },
      packages: [{ name: "level", versionInfo: version }],
    });
  const first = withoutChance(sbom("a", "2026-01-01T00:00:00.000Z", "10.0.0"), 1_700_000_000);
  expect(withoutChance(sbom("b", "2026-02-02T00:00:00.000Z", "10.0.0"), 1_700_000_000)).toBe(first);
  expect(JSON.parse(first).creationInfo).toEqual({
    created: "2023-11-14T22:13:20Z",
    creators: ["Tool: npm/cli-11.19.1"],
  });
  const other = JSON.parse(withoutChance(sbom("a", "2026-01-01T00:00:00.000Z", "10.0.1"), 1_700_000_000));
  expect(other.documentNamespace).not.toBe(JSON.parse(first).documentNamespace);
});

/** The programs that a manifest's containers start. */
function commandsIn(value: unknown): string[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([key, inner]) =>
    key === "command" && Array.isArray(inner) ? [String(inner[0])] : commandsIn(inner),
  );
}
