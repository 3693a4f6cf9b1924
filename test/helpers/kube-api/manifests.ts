// SPDX-License-Identifier: Apache-2.0
//
// What is in deploy/, as a person would hand it to a cluster.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import type { PolicyRule } from "./agent-account.ts";

const DEPLOY = new URL("../../../deploy", import.meta.url).pathname;

/** Directories with a kustomization: the base, and each overlay. */
export function kustomizations(): string[] {
  const overlays = join(DEPLOY, "overlays");
  const directories = [join(DEPLOY, "base"), ...readdirSync(overlays).map((name) => join(overlays, name))];
  return directories.filter((directory) => existsSync(join(directory, "kustomization.yaml")));
}

/** The rights of the agents. */
export function agentRules(): PolicyRule[] {
  const documents = parseAllDocuments(readFileSync(join(DEPLOY, "base/rbac.yaml"), "utf8")).map((one) => one.toJS());
  return documents.flatMap(({ kind, rules }) => (kind === "ClusterRole" ? (rules as PolicyRule[]) : []));
}

/** One verb on one resource, as words: "patch nodes/status", "create events.events.k8s.io". */
export function rightsOf(rules: readonly PolicyRule[]): string[] {
  return rules.flatMap(({ apiGroups, resources, verbs }) =>
    apiGroups.flatMap((group) => resources.flatMap((resource) => verbs.map((verb) => right(verb, group, resource)))),
  );
}

export function right(verb: string, group: string, resource: string): string {
  return `${verb} ${resource}${group === "" ? "" : `.${group}`}`;
}
