// SPDX-License-Identifier: Apache-2.0
//
// A kubeconfig (client.authentication and clientcmd/v1 of client-go): server, CA, client certificate and token, as data or
// as files. Only a user with a credential plugin (exec) needs the client library, one file of it, which is loaded then.
import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import { parse } from "yaml";
import { type Access, type Connection, readCredential, serverUrl } from "./access.ts";
import { KubeError, quote } from "./errors.ts";
import { fieldsOf, listOf, type Raw, textOf } from "./raw.ts";

/** How long a credential plugin may take, in milliseconds. */
const PLUGIN_TIMEOUT_MS = 60_000;

/** Fields that would change who asks, or by what way, and that nobody here knows: without them it would be another request. */
const UNKNOWN_TO_US = {
  cluster: ["proxy-url"],
  user: ["username", "password", "auth-provider", "as", "as-uid", "as-groups", "as-user-extra"],
};

/**
 * The current context of a kubeconfig. The file is read again for each request, and so are those that it names.
 * @param server in place of the file's
 */
export function kubeconfigConnection(path: string, server: URL | undefined): Connection {
  const plugin = new CredentialPlugin();
  let known = server?.origin;
  return {
    get server() {
      return known ?? `the server of ${path}`;
    },
    access: async (refused) => {
      const { cluster, user } = currentContext(path, await readConfig(path));
      const material = new Material(path);
      const url = server ?? serverUrl(textOf(cluster["server"]));
      known = url.origin;
      const exec = fieldsOf(user["exec"]);
      const given = user["exec"] === undefined ? undefined : await plugin.credentials(path, exec, refused);
      return {
        url,
        ca: await material.pem(cluster, "certificate-authority"),
        cert: given?.cert ?? (await material.pem(user, "client-certificate")),
        key: given?.key ?? (await material.pem(user, "client-key")),
        token: given?.token ?? (await material.token(user)),
        serverName: textOf(cluster["tls-server-name"]) || undefined,
        insecure: cluster["insecure-skip-tls-verify"] === true,
      };
    },
  };
}

async function readConfig(path: string): Promise<Raw> {
  const invalid = (cause: unknown) =>
    // The parser's message goes on with an excerpt, which may be a key.
    new KubeError("KUBE_CONFIG", `the kubeconfig ${path} can't be read: ${(cause as Error).message.split("\n")[0]}`);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw invalid(cause);
  }
  try {
    return fieldsOf(parse(text));
  } catch (cause) {
    throw invalid(cause);
  }
}

function currentContext(path: string, config: Raw): { readonly cluster: Raw; readonly user: Raw } {
  const called = textOf(config["current-context"]);
  const find = (list: string, name: string, field: string): Raw => {
    const found = listOf(config[list]).find((entry) => fieldsOf(entry)["name"] === name);
    if (found !== undefined) return fieldsOf(fieldsOf(found)[field]);
    throw new KubeError("KUBE_CONFIG", `the kubeconfig ${path} has no ${field} ${quote(name)}`);
  };
  const context = find("contexts", called, "context");
  const cluster = find("clusters", textOf(context["cluster"]), "cluster");
  const user = find("users", textOf(context["user"]), "user");
  for (const [kind, fields, unknown] of [
    ["cluster", cluster, UNKNOWN_TO_US.cluster],
    ["user", user, UNKNOWN_TO_US.user],
  ] as const) {
    const field = unknown.find((name) => fields[name] !== undefined);
    if (field === undefined) continue;
    throw new KubeError("KUBE_CONFIG", `the kubeconfig ${path} has ${field} for its ${kind}, which isn't supported`);
  }
  return { cluster, user };
}

/** What a kubeconfig has as base64 ("…-data") or as a path from its own folder. */
class Material {
  readonly #folder: string;
  constructor(path: string) {
    this.#folder = dirname(path);
  }

  async pem(fields: Raw, name: string): Promise<string | undefined> {
    const data = textOf(fields[`${name}-data`]);
    if (data !== "") return Buffer.from(data, "base64").toString();
    const file = textOf(fields[name]);
    return file === "" ? undefined : await readCredential(resolve(this.#folder, file));
  }

  /** tokenFile wins over token, as in client-go. */
  async token(user: Raw): Promise<string | undefined> {
    const file = textOf(user["tokenFile"]);
    if (file !== "") return (await readCredential(resolve(this.#folder, file))).trim();
    return textOf(user["token"]) || undefined;
  }
}

type Given = Partial<Pick<Access, "cert" | "key" | "token">>;

/** The `exec` of a user (client.authentication.k8s.io), run by the client library, which keeps what it gave until that expires. */
class CredentialPlugin {
  #runner: Promise<Runner> | undefined;
  #given: Given = {};
  /** Whoever asks meanwhile gets the same answer. */
  #asking: Promise<Given> | undefined;

  async credentials(path: string, exec: Raw, refused: Given | undefined): Promise<Given> {
    // What was refused to somebody may have been replaced since.
    if (refused !== undefined && isSame(refused, this.#given)) this.#runner = undefined;
    this.#asking ??= this.#ask(path, exec).finally(() => {
      this.#asking = undefined;
    });
    this.#given = await this.#asking;
    return this.#given;
  }

  async #ask(path: string, exec: Raw): Promise<Given> {
    this.#runner ??= loadRunner();
    const command = textOf(exec["command"]);
    const info = { apiVersion: exec["apiVersion"], kind: "ExecCredential", spec: { interactive: false } };
    const user = {
      name: path,
      exec: {
        // A path is one from the kubeconfig's folder, a mere name is looked up.
        command: command.includes("/") ? resolve(dirname(path), command) : command,
        args: listOf(exec["args"]).map(textOf),
        env: [...listOf(exec["env"]), { name: "KUBERNETES_EXEC_INFO", value: JSON.stringify(info) }],
      },
    };
    const options: { cert?: unknown; key?: unknown; headers: Record<string, unknown> } = { headers: {} };
    try {
      await withinTime((await this.#runner).applyAuthentication(user, options as never));
    } catch (cause) {
      const why = (cause as Error).message.trim().split("\n")[0];
      const message = `the credential plugin ${quote(command)} of ${path} failed: ${why}`;
      throw new KubeError("KUBE_CREDENTIALS", message, { cause });
    }
    const bearer = /^Bearer (.+)$/.exec(textOf(options.headers["Authorization"]))?.[1];
    return { cert: textOf(options.cert) || undefined, key: textOf(options.key) || undefined, token: bearer };
  }
}

function isSame(a: Given, b: Given): boolean {
  return a.token === b.token && a.cert === b.cert;
}

type Runner = InstanceType<typeof import("@kubernetes/client-node/dist/exec_auth.js").ExecAuth>;

async function loadRunner(): Promise<Runner> {
  const { ExecAuth } = await import("@kubernetes/client-node/dist/exec_auth.js");
  return new ExecAuth();
}

async function withinTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${PLUGIN_TIMEOUT_MS} ms`)), PLUGIN_TIMEOUT_MS);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}
