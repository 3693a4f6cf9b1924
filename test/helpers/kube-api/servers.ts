// SPDX-License-Identifier: Apache-2.0
//
// The API servers that a suite runs on: the double always, a real one where there is one.
import type { Cleanup } from "../daemon.ts";
import type { ApiServer } from "./api-server.ts";
import { kubebuilderAssets, startControlPlane } from "./control-plane.ts";
import { startDouble } from "./double.ts";

export interface ApiServerKind {
  readonly name: string;
  /** `cleanup` ends it. */
  start(cleanup: Cleanup): Promise<ApiServer>;
}

export function apiServerKinds(): ApiServerKind[] {
  const double: ApiServerKind = {
    name: "the double",
    start: async (cleanup) => {
      const server = await startDouble({ tls: true });
      cleanup.add(() => server.close());
      return server;
    },
  };
  const assets = kubebuilderAssets();
  if (assets === undefined) return [double];
  return [double, { name: "a real API server", start: (cleanup) => startControlPlane(assets, cleanup) }];
}
