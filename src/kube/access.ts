// SPDX-License-Identifier: Apache-2.0
//
// What a request to the API server is made with.
import { readFile } from "node:fs/promises";
import { KubeError, quote } from "./errors.ts";

/** Everything one request needs to know of the server. Texts that are secret are in no error and no log. */
export interface Access {
  /** http: or https:, without a query. A path in it is before every path of the API. */
  readonly url: URL;
  /** PEM; undefined: the authorities that Node knows. */
  readonly ca: string | undefined;
  /** Client certificate and its key, PEM. */
  readonly cert: string | undefined;
  readonly key: string | undefined;
  /** Bearer token. */
  readonly token: string | undefined;
  /** The name that the server's certificate has to have, where that isn't the URL's. */
  readonly serverName: string | undefined;
  /** Believe any certificate: only where a kubeconfig says so. */
  readonly insecure: boolean;
}

export interface Connection {
  /** The server, for people. */
  readonly server: string;
  /**
   * What it is asked with, as it is now.
   * @param refused what the server didn't take (401): nothing that was kept in memory of it is used again
   * @throws KubeError KUBE_CONFIG or KUBE_CREDENTIALS
   */
  access(refused?: Access): Promise<Access>;
}

/** @throws KubeError KUBE_CONFIG */
export function serverUrl(text: string): URL {
  const url = URL.parse(text);
  if (url === null || !/^https?:$/.test(url.protocol) || url.username !== "" || url.search !== "" || url.hash !== "") {
    throw new KubeError("KUBE_CONFIG", `${quote(text)} is not the URL of an API server, like https://10.96.0.1:443`);
  }
  return url;
}

/** A file of a credential. @throws KubeError KUBE_CREDENTIALS with path and reason */
export async function readCredential(path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new KubeError("KUBE_CREDENTIALS", `${path} can't be read: ${(cause as Error).message}`, { cause });
  }
  if (text.trim() === "") throw new KubeError("KUBE_CREDENTIALS", `${path} is empty`);
  return text;
}
