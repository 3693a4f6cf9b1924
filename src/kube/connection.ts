// SPDX-License-Identifier: Apache-2.0
//
// Where the API server is and as whom it is asked. Credentials are read again for each request: kubelet rotates a pod's
// token every hour and may change the CA, and a file of 2 KB costs nothing beside a request.
import { join } from "node:path";
import { type Connection, readCredential, serverUrl } from "./access.ts";
import { KubeError } from "./errors.ts";
import { kubeconfigConnection } from "./kubeconfig.ts";

/** Where kubelet puts a pod's token, CA and namespace (Kubernetes documentation, "Accessing the API from a Pod"). */
export const SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount";

export interface ConnectionOptions {
  /** Path of a kubeconfig; without it the pod's service account is used. */
  readonly kubeconfig?: string | undefined;
  /** URL of the server, in place of what the kubeconfig or the environment says. */
  readonly apiServer?: string | undefined;
  /** Directory of the files `token` and `ca.crt`. */
  readonly serviceAccountDir?: string | undefined;
  /** KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT, as the environment has them. */
  readonly service?: { readonly host: string | undefined; readonly port: string | undefined } | undefined;
}

/**
 * How the API server is reached. Nothing is asked yet, and no file is read: what is wrong with those may be right later.
 * @throws KubeError KUBE_CONFIG when it is nowhere said where the server is
 */
export function openConnection(options: ConnectionOptions): Connection {
  const override = options.apiServer === undefined ? undefined : serverUrl(options.apiServer);
  if (options.kubeconfig !== undefined) return kubeconfigConnection(options.kubeconfig, override);
  return inClusterConnection(override ?? serviceUrl(options.service), options.serviceAccountDir ?? SERVICE_ACCOUNT_DIR);
}

/** As a pod's service account. Over http, which is for tests and proxies on the node, the token stays where it is. */
function inClusterConnection(url: URL, directory: string): Connection {
  const none = { cert: undefined, key: undefined, serverName: undefined, insecure: false };
  return {
    server: url.origin,
    access: async () => {
      if (url.protocol === "http:") return { ...none, url, ca: undefined, token: undefined };
      const [ca, token] = await Promise.all([
        readCredential(join(directory, "ca.crt")),
        readCredential(join(directory, "token")),
      ]);
      return { ...none, url, ca, token: token.trim() };
    },
  };
}

function serviceUrl(service: ConnectionOptions["service"]): URL {
  const { host = "", port = "" } = service ?? {};
  if (host === "" || !/^\d+$/.test(port)) {
    const where = "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set, as they are in every pod";
    throw new KubeError("KUBE_CONFIG", `where the API server is, isn't known: ${where}; give its URL or a kubeconfig`);
  }
  return serverUrl(`https://${host.includes(":") ? `[${host}]` : host}:${port}`);
}
