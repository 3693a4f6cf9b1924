// SPDX-License-Identifier: Apache-2.0
//
// An API server for a test, whichever it is: the double, or a real one where KUBEBUILDER_ASSETS says where that is.
import { mkdirSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Admin } from "./admin.ts";
import type { AuditEntry } from "./control-plane.ts";

/** The address of the service `kubernetes`, which pods find it at: one of its certificate's names. */
export const KUBERNETES_SERVICE_ADDRESS = "10.96.0.1";

export interface ApiServer {
  /** "https://127.0.0.1:PORT" */
  readonly url: string;
  /** The authority of its certificate, PEM; undefined where it speaks http. */
  readonly ca: string | undefined;
  /** Of somebody who may do everything. */
  readonly token: string;
  readonly admin: Admin;
  /** Who asked for what since it was started, each request once. */
  audit(): AuditEntry[];
  /** Connections are refused from now on, and those that are open are closed. Its objects stay. */
  stop(): Promise<void>;
  /** At the same address, with the same objects. */
  start(): Promise<void>;
}

/** What kubelet gives a pod of its service account, each file replaced as a whole. */
export function writeServiceAccount(
  directory: string,
  { ca, token }: { ca?: string | undefined; token: string },
): void {
  mkdirSync(directory, { recursive: true });
  for (const [name, text] of [
    ["ca.crt", ca],
    ["token", token],
  ] as const) {
    if (text === undefined) continue;
    writeFileSync(join(directory, `.${name}`), text, { mode: 0o600 });
    renameSync(join(directory, `.${name}`), join(directory, name));
  }
}
