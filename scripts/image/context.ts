// SPDX-License-Identifier: Apache-2.0
//
// What the directory has in it that the Dockerfile is built in.

import { createHash } from "node:crypto";

/** Each file, and where it comes from: dist/, the checkout's root, or made for it. */
export const IMAGE_FILES: Readonly<Record<string, "dist" | "source" | "made">> = {
  Dockerfile: "source",
  flatnet: "dist",
  flatnetd: "dist",
  "sbom.spdx.json": "made",
};

/** npm's bill of materials (SPDX 2.3) with a time and a name that follow from the sources. */
export function withoutChance(sbom: string, epochSeconds: number): string {
  const { documentNamespace: _, creationInfo, ...rest } = JSON.parse(sbom);
  const hash = createHash("sha256").update(JSON.stringify(rest)).digest("hex");
  const created = new Date(epochSeconds * 1000).toISOString().replace(/\.\d+/, "");
  const document = {
    ...rest,
    documentNamespace: `https://spdx.org/spdxdocs/${rest.name}-${hash}`,
    creationInfo: { ...creationInfo, created },
  };
  return `${JSON.stringify(document, undefined, 2)}\n`;
}

/** The files that a Dockerfile copies from the directory, in its order. */
export function copiedFiles(dockerfile: string): string[] {
  const lines = dockerfile.replaceAll("\\\n", " ").split("\n");
  return lines.flatMap((line) => /^(?:COPY|ADD) (.*) \S+$/.exec(line)?.[1]?.split(" ") ?? []);
}
