// SPDX-License-Identifier: Apache-2.0
//
// Manifests against Kubernetes' own description of them: the types that @kubernetes/client-node has generated from the
// OpenAPI document. As a literal of its type an object may not lack a field that is required, nor have one that doesn't
// exist, however deep; the API server would drop that one and say nothing to most clients.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Manifest } from "../manifests.ts";
import { ROOT, run } from "../repo.ts";

/** The type of each kind that is used. */
const TYPES: Readonly<Record<string, string>> = {
  "v1 Namespace": "V1Namespace",
  "v1 ServiceAccount": "V1ServiceAccount",
  "v1 ConfigMap": "V1ConfigMap",
  "rbac.authorization.k8s.io/v1 ClusterRole": "V1ClusterRole",
  "rbac.authorization.k8s.io/v1 ClusterRoleBinding": "V1ClusterRoleBinding",
  "v1 Service": "V1Service",
  "apps/v1 DaemonSet": "V1DaemonSet",
  "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicy": "V1ValidatingAdmissionPolicy",
  "admissionregistration.k8s.io/v1 ValidatingAdmissionPolicyBinding": "V1ValidatingAdmissionPolicyBinding",
};

/** What the compiler finds wrong with them, a line each; empty when all is well. */
export async function typeProblems(manifests: readonly Manifest[]): Promise<string[]> {
  const unknown = manifests.map(({ apiVersion, kind }) => `${apiVersion} ${kind}`).filter((kind) => !(kind in TYPES));
  if (unknown.length > 0) return unknown.map((kind) => `${kind} is no kind that is used here`);
  // In the checkout, so that the library is found.
  mkdirSync(join(ROOT, "build"), { recursive: true });
  const directory = mkdtempSync(join(ROOT, "build", "manifests-"));
  try {
    const names = [...new Set(Object.values(TYPES))].join(", ");
    const literals = manifests.map((manifest, at) => {
      const type = TYPES[`${manifest.apiVersion} ${manifest.kind}`];
      return `export const m${at}: ${type} = ${JSON.stringify(manifest, undefined, 1)};`;
    });
    const file = join(directory, "manifests.ts");
    writeFileSync(file, [`import type { ${names} } from "@kubernetes/client-node";`, ...literals, ""].join("\n"));
    const options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--types", "node"];
    const { code, output } = await run("tsc", ["--ignoreConfig", ...options, "--pretty", "false", file]);
    return code === 0 ? [] : output.trim().split("\n");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
