// SPDX-License-Identifier: Apache-2.0
//
// What the agent may ask of the API server, as deploy/base/rbac.yaml grants it.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DEPLOY, type Manifest, parseManifests } from "../manifests.ts";

interface ClusterRole extends Manifest {
  readonly rules: readonly {
    readonly apiGroups: readonly string[];
    readonly resources: readonly string[];
    readonly verbs: readonly string[];
  }[];
}

/** Each right as `verb resource` or `verb resource.group`: "patch nodes/status", "watch networkpolicies.networking.k8s.io". */
export function grantedRights(): Set<string> {
  const name = "base/rbac.yaml";
  const manifests = parseManifests(readFileSync(join(DEPLOY, name), "utf8"), name);
  const roles = manifests.filter(({ kind }) => kind === "ClusterRole") as ClusterRole[];
  return new Set(
    roles
      .flatMap(({ rules }) => rules)
      .flatMap(({ apiGroups, resources, verbs }) =>
        apiGroups.flatMap((group) =>
          resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource}${group === "" ? "" : `.${group}`}`)),
        ),
      ),
  );
}
