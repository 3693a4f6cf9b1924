// SPDX-License-Identifier: Apache-2.0
//
// The API servers that a cluster can be tried with.
import type { Cleanup } from "../daemon.ts";
import { createAdmin } from "../kube-api/admin.ts";
import { grant, issueToken, type PolicyRule } from "../kube-api/agent-account.ts";
import { kubebuilderAssets, startControlPlane } from "../kube-api/control-plane.ts";
import type { Server } from "./cluster.ts";

export interface ApiKind {
  readonly name: string;
  start(cleanup: Cleanup): Promise<Server>;
}

const AGENT_RULES: readonly PolicyRule[] = [
  { apiGroups: [""], resources: ["nodes", "pods", "namespaces"], verbs: ["get", "list", "watch"] },
  { apiGroups: [""], resources: ["nodes"], verbs: ["patch"] },
  { apiGroups: [""], resources: ["nodes/status"], verbs: ["patch"] },
  { apiGroups: ["", "events.k8s.io"], resources: ["events"], verbs: ["create", "patch"] },
  { apiGroups: ["networking.k8s.io"], resources: ["networkpolicies"], verbs: ["list", "watch"] },
];

export function apiServers(): ApiKind[] {
  const assets = kubebuilderAssets();
  return assets === undefined ? [] : [{ name: "a real API server", start: (cleanup) => startReal(assets, cleanup) }];
}

async function startReal(assets: string, cleanup: Cleanup): Promise<Server> {
  const { url, ca, adminToken } = await startControlPlane(assets, cleanup);
  const admin = createAdmin({ url, ca, token: adminToken });
  await grant(admin, AGENT_RULES);
  return { url, ca, admin, token: () => issueToken(admin) };
}
