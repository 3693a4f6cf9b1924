// SPDX-License-Identifier: Apache-2.0
//
// The image's bill of materials: npm's (SPDX 2.3, https://spdx.github.io/spdx-spec/v2.3/) with what is linked into the plugin.

import { createHash } from "node:crypto";

/** A package of a bill of materials, as far as it matters here; npm's have more. */
export interface SbomPackage {
  readonly SPDXID: string;
  readonly name: string;
  readonly versionInfo: string;
  readonly licenseDeclared?: string;
  /** Where npm installed it, "node_modules/level". */
  readonly packageFileName?: string;
  readonly [more: string]: unknown;
}

interface Relationship {
  readonly spdxElementId: string;
  readonly relatedSpdxElement: string;
  readonly relationshipType: string;
}

/** What npm sbom prints. */
export interface Sbom {
  readonly name: string;
  readonly documentNamespace: string;
  readonly creationInfo: { readonly created: string; readonly creators: readonly string[] };
  /** The project's own package alone. */
  readonly documentDescribes: readonly string[];
  readonly packages: readonly SbomPackage[];
  readonly relationships: readonly Relationship[];
}

/** What is linked into the plugin's executable besides the project's own code. */
export interface Component {
  readonly name: string;
  readonly version: string;
  /** An SPDX expression. */
  readonly license: string;
  /** Its copyright lines, where they are few enough to be repeated. */
  readonly copyright?: string;
  /** Where it was taken from, for people. */
  readonly source: string;
  /** https://github.com/package-url/purl-spec, for programs that look for what is known to be vulnerable. */
  readonly purl: string;
}

/** A file of licenses' texts is made of these. */
export interface LicenseText {
  /** Name and version of what it is the license of. */
  readonly of: string;
  readonly text: string;
}

/** Name of the npm package that the plugin's engine comes in. */
const ENGINE_PACKAGE = "qjsc";

/**
 * npm's bill of materials without what is for development, and told what a C compiler made of it: of the package that the engine
 * comes in only the engine is shipped, so what that package alone depends on isn't there.
 * @param sbom with development: `npm sbom --omit dev` leaves out all that a package for development depends on too
 * @param development folders of packages, as `developmentFolders` finds them
 * @param libraries what else is linked into the plugin
 */
export function withLinked(
  sbom: Sbom,
  development: ReadonlySet<string>,
  engine: Component,
  libraries: readonly Component[],
): Sbom {
  const root = sbom.documentDescribes[0];
  const carrier = sbom.packages.find(({ name }) => name === ENGINE_PACKAGE)?.SPDXID;
  if (root === undefined || carrier === undefined) throw new Error(`npm's bill of materials has no ${ENGINE_PACKAGE}`);
  const refused = sbom.packages.filter(({ packageFileName = "" }) => development.has(packageFileName));
  const shipped = reachable(sbom.relationships, root, carrier, new Set(refused.map(({ SPDXID }) => SPDXID)));
  const isLeft = (id: string): boolean => shipped.has(id) || id === "SPDXRef-DOCUMENT";
  return {
    ...sbom,
    packages: [
      ...sbom.packages
        .filter(({ SPDXID }) => isLeft(SPDXID))
        // What its package.json says is no SPDX expression.
        .map((entry) => (entry.SPDXID === carrier ? { ...entry, licenseDeclared: "Apache-2.0" } : entry)),
      ...[engine, ...libraries].map(packageOf),
    ],
    relationships: [
      ...sbom.relationships
        .filter(({ spdxElementId, relatedSpdxElement: to }) => isLeft(spdxElementId) && isLeft(to) && to !== carrier)
        .map((entry) =>
          entry.spdxElementId === carrier ? { ...entry, relationshipType: "BUILD_DEPENDENCY_OF" } : entry,
        ),
      { spdxElementId: carrier, relatedSpdxElement: idOf(engine), relationshipType: "CONTAINS" },
      ...[engine, ...libraries].map((part) => ({
        spdxElementId: root,
        relatedSpdxElement: idOf(part),
        relationshipType: "STATIC_LINK",
      })),
    ],
  };
}

/** What `root` depends on, itself included, but neither `refused` nor what `leaf` depends on. */
function reachable(
  relationships: readonly Relationship[],
  root: string,
  leaf: string,
  refused: ReadonlySet<string>,
): Set<string> {
  const needs = Map.groupBy(
    relationships.filter(({ relationshipType }) => /^(OPTIONAL_)?DEPENDENCY_OF$/.test(relationshipType)),
    ({ relatedSpdxElement }) => relatedSpdxElement,
  );
  const found = new Set<string>();
  const next = [root];
  for (let at = next.pop(); at !== undefined; at = next.pop()) {
    if (found.has(at) || refused.has(at)) continue;
    found.add(at);
    if (at !== leaf) next.push(...(needs.get(at) ?? []).map(({ spdxElementId }) => spdxElementId));
  }
  return found;
}

/** The folders of packages that npm installs for development, by a package-lock.json (version 3). An optional peer may be one. */
export function developmentFolders(lock: string): Set<string> {
  const { packages }: { packages: Record<string, { dev?: boolean; devOptional?: boolean }> } = JSON.parse(lock);
  const folders = Object.entries(packages).filter(([, { dev, devOptional }]) => dev === true || devOptional === true);
  return new Set(folders.map(([folder]) => folder));
}

/** SPDX 2.3, section 7.2: letters, digits, dots and hyphens. */
function idOf({ name, version }: Component): string {
  return `SPDXRef-Package-${name}-${version}`.replace(/[^A-Za-z0-9.-]/g, "-");
}

function packageOf(part: Component): SbomPackage {
  return {
    name: part.name,
    SPDXID: idOf(part),
    versionInfo: part.version,
    downloadLocation: "NOASSERTION",
    filesAnalyzed: false,
    sourceInfo: part.source,
    licenseDeclared: part.license,
    copyrightText: part.copyright ?? "NOASSERTION",
    externalRefs: [{ referenceCategory: "PACKAGE-MANAGER", referenceType: "purl", referenceLocator: part.purl }],
  };
}

/** The document as text, with a time and a name that follow from the sources. */
export function withoutChance(sbom: Sbom, epochSeconds: number): string {
  const { documentNamespace: _, creationInfo, ...rest } = sbom;
  const hash = createHash("sha256").update(JSON.stringify(rest)).digest("hex");
  const created = new Date(epochSeconds * 1000).toISOString().replace(/\.\d+/, "");
  const document = {
    ...rest,
    documentNamespace: `https://spdx.org/spdxdocs/${rest.name}-${hash}`,
    creationInfo: { ...creationInfo, created },
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/** One file of many licenses. */
export function licenseFile(texts: readonly LicenseText[]): string {
  const line = "=".repeat(80);
  return texts.map(({ of, text }) => `${line}\n${of}\n${line}\n\n${text.trim()}\n`).join("\n");
}
