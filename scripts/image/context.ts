// SPDX-License-Identifier: Apache-2.0
//
// What the directory has in it that the Dockerfile is built in.

/** Each file, and where it comes from: dist/, the checkout's root, or made for it. */
export const IMAGE_FILES: Readonly<Record<string, "dist" | "source" | "made">> = {
  Dockerfile: "source",
  flatnet: "dist",
  flatnetd: "dist",
  "licenses.txt": "made",
  "sbom.spdx.json": "made",
};

/** The files that a Dockerfile copies from the directory, in its order. */
export function copiedFiles(dockerfile: string): string[] {
  const lines = dockerfile.replaceAll("\\\n", " ").split("\n");
  return lines.flatMap((line) => /^(?:COPY|ADD) (.*) \S+$/.exec(line)?.[1]?.split(" ") ?? []);
}
