// SPDX-License-Identifier: Apache-2.0
//
// The API servers that a cluster can be tried with.
import type { Cleanup } from "../daemon.ts";
import { grant, issueToken } from "../kube-api/agent-account.ts";
import { kubebuilderAssets, startControlPlane } from "../kube-api/control-plane.ts";
import { AGENT_TOKEN, startDouble } from "../kube-api/double.ts";
import { agentRules } from "../kube-api/manifests.ts";
import type { Server } from "./cluster.ts";

export interface ServerKind {
  readonly name: string;
  start(cleanup: Cleanup): Promise<Server>;
}

/** The double, and a real one where there is one. */
export function serverKinds(): ServerKind[] {
  const assets = kubebuilderAssets();
  const double: ServerKind = { name: "the double of an API server", start: startDoubleServer };
  if (assets === undefined) return [double];
  return [double, { name: "a real API server", start: (cleanup) => startRealServer(assets, cleanup) }];
}

async function startDoubleServer(cleanup: Cleanup): Promise<Server> {
  const double = await startDouble({ tls: true });
  cleanup.add(() => double.close());
  return { ...double, ca: double.ca as string, admin: double.admin, agentToken: async () => AGENT_TOKEN };
}

/** Its agents have the rights that the manifests give them, and no others. */
async function startRealServer(assets: string, cleanup: Cleanup): Promise<Server> {
  const plane = await startControlPlane(assets, cleanup);
  await grant(plane.admin, agentRules());
  return { ...plane, agentToken: (nodeName) => issueToken(plane.admin, nodeName) };
}
