// SPDX-License-Identifier: Apache-2.0
//
// npm run manifests
//
// Writes what a person applies without kustomize: deploy/flatnet.yaml and deploy/uninstall.yaml, each the files of a
// kustomization behind each other. These kustomizations change nothing, so no program is needed for that; overlays are
// kubectl's (kubectl apply -k deploy/overlays/NAME).

import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parse, parseAllDocuments } from "yaml";
import { explain, ROOT, StepError, say } from "./repo.ts";

export const DEPLOY = join(ROOT, "deploy");

/** Which kustomization each file is made of, both in deploy/. */
export const RENDERED: Readonly<Record<string, string>> = {
  "flatnet.yaml": "base",
  "uninstall.yaml": "uninstall",
};

const HEADER = (directory: string) => `# SPDX-License-Identifier: Apache-2.0
#
# Made of deploy/${directory} by \`npm run manifests\`: change it there.
`;

/** A Kubernetes object as it is in a manifest. */
export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string };
}

/**
 * The files of a kustomization behind each other.
 * @param read a file by its name in the directory
 * @throws StepError when the kustomization says more than which files there are
 */
export function renderPlain(directory: string, read: (name: string) => string): string {
  const { apiVersion: _, kind: __, resources, ...rest } = parse(read("kustomization.yaml")) as Record<string, unknown>;
  const others = Object.keys(rest);
  if (!Array.isArray(resources) || others.length > 0) {
    throw new StepError(
      `${directory}/kustomization.yaml: can only be a list of resources, and has ${others.join(", ")}`,
    );
  }
  const texts = resources.map((name) => read(String(name)).replace(/^# SPDX-License-Identifier: .*\n(#\n)?/, ""));
  return [HEADER(directory), ...texts].join("---\n").replace("---\n", "");
}

/** The objects of a file. @throws StepError naming what is wrong with it */
export function parseManifests(text: string, name: string): Manifest[] {
  return parseAllDocuments(text).map((document) => {
    const problem = [...document.errors, ...document.warnings][0];
    if (problem !== undefined) throw new StepError(`${name}: ${problem.message}`);
    return document.toJS() as Manifest;
  });
}

/** What `name` of RENDERED should be. */
export function render(name: string): string {
  const directory = RENDERED[name];
  if (directory === undefined) throw new StepError(`${name} is not rendered`);
  return renderPlain(directory, (file) => readFileSync(join(DEPLOY, directory, file), "utf8"));
}

if (import.meta.main) {
  try {
    for (const name of Object.keys(RENDERED)) {
      writeFileSync(join(DEPLOY, name), render(name));
      say(`deploy/${name}`);
    }
  } catch (error) {
    process.stderr.write(`${explain(error)}\n`);
    process.exitCode = 1;
  }
}
