// SPDX-License-Identifier: Apache-2.0
//
// The API servers that a suite runs on: the double always, a real one where there is one.
import type { Cleanup } from "../daemon.ts";
import { grant, issueToken } from "./agent-account.ts";
import type { ApiServer } from "./api-server.ts";
import { kubebuilderAssets, startControlPlane } from "./control-plane.ts";
import { AGENT_TOKEN, startDouble } from "./double.ts";
import { agentRules } from "./manifests.ts";

/** An API server that speaks https; its certificate is for KUBERNETES_SERVICE_ADDRESS too. */
export interface Server extends ApiServer {
  readonly ca: string;
  /** A token of the agent of a node, as kubelet gets it one. A real server gives it the rights of the manifests, and no others. */
  agentToken(nodeName: string): Promise<string>;
}

export interface ServerKind {
  readonly name: string;
  /** `cleanup` ends it. */
  start(cleanup: Cleanup): Promise<Server>;
}

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

async function startRealServer(assets: string, cleanup: Cleanup): Promise<Server> {
  const plane = await startControlPlane(assets, cleanup);
  const agentToken = async (nodeName: string) => {
    await grant(plane.admin, agentRules());
    return issueToken(plane.admin, nodeName);
  };
  return { ...plane, agentToken };
}
