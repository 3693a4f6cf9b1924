// SPDX-License-Identifier: Apache-2.0
//
// What is in deploy/, as a person would hand it to a cluster.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseAllDocuments } from "yaml";
import { DEPLOY } from "../../../scripts/manifests.ts";
import type { PolicyRule } from "./agent-account.ts";

/** What `kubectl apply` takes, by its name in deploy/: directories with a kustomization, and files that are whole. */
export function appliable(): string[] {
  const overlays = readdirSync(join(DEPLOY, "overlays")).map((name) => `overlays/${name}`);
  return ["base", ...overlays, ...readdirSync(DEPLOY).filter((name) => name.endsWith(".yaml"))];
}

/** The rights of the agents. */
export function agentRules(): PolicyRule[] {
  const documents = parseAllDocuments(readFileSync(join(DEPLOY, "base/rbac.yaml"), "utf8")).map((one) => one.toJS());
  return documents.flatMap(({ kind, rules }) => (kind === "ClusterRole" ? (rules as PolicyRule[]) : []));
}
