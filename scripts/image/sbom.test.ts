// SPDX-License-Identifier: Apache-2.0
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { ENGINE } from "../pack/quickjs.ts";
import { hostArch } from "../pack/runtimes.ts";
import { ROOT } from "../repo.ts";
import { engineComponent, libcComponent, licenseTexts } from "./linked.ts";
import { type Component, developmentFolders, licenseFile, type Sbom, withLinked, withoutChance } from "./sbom.ts";

const id = (name: string) => `SPDXRef-Package-${name}-1.0.0`;
const depends = (on: string, by: string, relationshipType = "DEPENDENCY_OF") => ({
  spdxElementId: id(on),
  relatedSpdxElement: id(by),
  relationshipType,
});

/**
 * As npm prints it: the engine's package shares one dependency with another package, and has two more to itself. A tool for
 * development needs what the project needs to run, and is an optional peer of such a package.
 */
const NPM: Sbom = {
  name: "flatnet@1.0.0",
  documentNamespace: "http://spdx.org/spdxdocs/flatnet-1.0.0-chance",
  creationInfo: { created: "2026-01-01T00:00:00.000Z", creators: ["Tool: npm/cli-11.19.1"] },
  documentDescribes: [id("flatnet")],
  packages: ["flatnet", "level", "qjsc", "shared", "builder", "builders-own", "native", "tool", "tools-own"].map(
    (name) => ({
      name,
      SPDXID: id(name),
      versionInfo: "1.0.0",
      packageFileName: name === "flatnet" ? "" : `node_modules/${name}`,
      licenseDeclared: name === "qjsc" ? "Apache License 2.0" : "MIT",
    }),
  ),
  relationships: [
    { spdxElementId: "SPDXRef-DOCUMENT", relatedSpdxElement: id("flatnet"), relationshipType: "DESCRIBES" },
    depends("level", "flatnet"),
    depends("qjsc", "flatnet"),
    depends("shared", "level"),
    depends("shared", "qjsc"),
    depends("builder", "qjsc"),
    depends("builders-own", "builder"),
    depends("native", "level", "OPTIONAL_DEPENDENCY_OF"),
    depends("tool", "flatnet", "DEV_DEPENDENCY_OF"),
    depends("tool", "level"),
    depends("shared", "tool"),
    depends("tools-own", "tool"),
  ],
};

const LIBC: Component = {
  name: "glibc",
  version: "2.36-9+deb12u14",
  license: "LGPL-2.1-or-later",
  source: "libc.a of Debian's libc6-dev",
  purl: "pkg:deb/debian/libc6-dev@2.36-9%2Bdeb12u14?arch=amd64",
};

const DEVELOPMENT = developmentFolders(
  JSON.stringify({
    packages: {
      "": { name: "flatnet" },
      "node_modules/level": {},
      "node_modules/native": { optional: true },
      "node_modules/shared": {},
      "node_modules/tool": { devOptional: true },
      "node_modules/tools-own": { dev: true },
    },
  }),
);

const linked = async () => withLinked(NPM, DEVELOPMENT, await engineComponent(), [LIBC]);
const names = ({ packages }: Sbom) => packages.map(({ name }) => name);

test("the plugin's engine and C library are in the bill of materials, with their licenses and as what is linked into it", async () => {
  const sbom = await linked();
  const engine = sbom.packages.find(({ name }) => name === "quickjs");
  expect(engine).toMatchObject({ versionInfo: "2021-03-27", licenseDeclared: "MIT" });
  expect(engine?.["copyrightText"]).toMatch(/Fabrice Bellard\n.*Charlie Gordon$/);
  const libc = sbom.packages.find(({ name }) => name === "glibc");
  expect(libc).toMatchObject({
    SPDXID: "SPDXRef-Package-glibc-2.36-9-deb12u14",
    licenseDeclared: "LGPL-2.1-or-later",
  });
  const into = sbom.relationships.filter(({ relationshipType }) => relationshipType === "STATIC_LINK");
  expect(into.map(({ spdxElementId, relatedSpdxElement }) => [spdxElementId, relatedSpdxElement])).toEqual([
    [id("flatnet"), engine?.SPDXID],
    [id("flatnet"), libc?.SPDXID],
  ]);
});

test("of the package that the engine comes in nothing else is shipped, and so nothing that it alone depends on; and nothing for development", async () => {
  const sbom = await linked();
  expect(names(sbom)).toEqual(["flatnet", "level", "qjsc", "shared", "native", "quickjs", "glibc"]);
  expect(sbom.packages.find(({ name }) => name === "qjsc")?.licenseDeclared).toBe("Apache-2.0");
  expect(sbom.relationships).toContainEqual({ ...depends("qjsc", "flatnet"), relationshipType: "BUILD_DEPENDENCY_OF" });
  expect(sbom.relationships).toContainEqual(depends("shared", "level"));
});

test("a bill of materials speaks of nothing that isn't in it", async () => {
  const sbom = await linked();
  const known = new Set(["SPDXRef-DOCUMENT", ...sbom.packages.map(({ SPDXID }) => SPDXID)]);
  for (const { spdxElementId, relatedSpdxElement } of sbom.relationships) {
    expect(known).toContain(spdxElementId);
    expect(known).toContain(relatedSpdxElement);
  }
});

test("an engine that comes in another package than the one that is known is an error", async () => {
  const without = { ...NPM, packages: NPM.packages.filter(({ name }) => name !== "qjsc") };
  expect(() => withLinked(without, DEVELOPMENT, LIBC, [])).toThrow("qjsc");
});

// Unit tests run on machines without a compiler too.
test.skipIf(!existsSync("/usr/bin/cc"))("the C library is the one that the compiler links", async () => {
  const libc = await libcComponent(hostArch());
  expect(libc).toMatchObject({ name: "glibc", version: expect.stringMatching(/^2\.\d+/) });
  expect(libc.purl).toMatch(/^pkg:(deb\/debian|generic)\/\S+@2\.\d+/);
});

test("the texts of the licenses are there as they are asked for: the engine's, word for word, and the daemon's packages'", async () => {
  const lock: { packages: Record<string, { version: string; license?: string }> } = JSON.parse(
    readFileSync(join(ROOT, "package-lock.json"), "utf8"),
  );
  const installed = (name: string) => ({
    name,
    SPDXID: name,
    versionInfo: lock.packages[`node_modules/${name}`]?.version ?? "",
    packageFileName: `node_modules/${name}`,
  });
  const packages = [installed("level"), installed("koffi-of-another-machine")];
  const texts = await licenseTexts(packages, join(ROOT, "node_modules"), await engineComponent(), LIBC);
  const file = licenseFile(texts);
  expect(file).toContain(readFileSync(join(ENGINE, "LICENSE"), "utf8").trim());
  expect(file).toContain(readFileSync(join(ROOT, "node_modules", "level", "LICENSE"), "utf8").trim());
  expect(file).toContain("LGPL-2.1");
  expect(file).not.toContain("another-machine");
});

test("a bill of materials is the same whenever it is made of the same", () => {
  const made = (uuid: string, created: string, version: string): Sbom => ({
    ...NPM,
    documentNamespace: `http://spdx.org/spdxdocs/flatnet-1.0.0-${uuid}`,
    creationInfo: { created, creators: ["Tool: npm/cli-11.19.1"] },
    packages: [{ name: "level", SPDXID: id("level"), versionInfo: version }],
  });
  const first = withoutChance(made("a", "2026-01-01T00:00:00.000Z", "10.0.0"), 1_700_000_000);
  expect(withoutChance(made("b", "2026-02-02T00:00:00.000Z", "10.0.0"), 1_700_000_000)).toBe(first);
  expect(JSON.parse(first).creationInfo).toEqual({
    created: "2023-11-14T22:13:20Z",
    creators: ["Tool: npm/cli-11.19.1"],
  });
  const other = JSON.parse(withoutChance(made("a", "2026-01-01T00:00:00.000Z", "10.0.1"), 1_700_000_000));
  expect(other.documentNamespace).not.toBe(JSON.parse(first).documentNamespace);
});
