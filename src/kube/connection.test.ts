// SPDX-License-Identifier: Apache-2.0
//
// As whom the API server is asked, against a double that speaks TLS and checks tokens.
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TLSSocket } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { stringify } from "yaml";
import { writeServiceAccount } from "../../test/helpers/kube-api/api-server.ts";
import { makeCertificate } from "../../test/helpers/kube-api/certificates.ts";
import { AGENT_TOKEN, type KubeApiDouble, startDouble } from "../../test/helpers/kube-api/double.ts";
import type { Connection } from "./access.ts";
import { openConnection } from "./connection.ts";
import { KubeHttp } from "./http.ts";

const GET = { method: "GET", path: "/api/v1/nodes" } as const;

function directory(): string {
  const path = mkdtempSync(join(tmpdir(), "kube-connection-"));
  onTestFinished(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

async function startServer(): Promise<KubeApiDouble> {
  const server = await startDouble({ tls: true });
  onTestFinished(() => server.close());
  return server;
}

/** Asks for the nodes. */
function asker(connection: Connection): () => Promise<unknown> {
  const http = new KubeHttp(connection, { userAgent: "test" });
  onTestFinished(() => http.close());
  return () => http.json(GET);
}

async function inCluster() {
  const server = await startServer();
  const path = directory();
  writeServiceAccount(path, { ca: server.ca, token: `${AGENT_TOKEN}\n` });
  const { hostname: host, port } = new URL(server.url);
  return { server, path, ask: asker(openConnection({ service: { host, port }, serviceAccountDir: path })) };
}

interface KubeconfigParts {
  readonly cluster?: object;
  readonly user?: object;
}

function writeKubeconfig(path: string, server: string, { cluster = {}, user = {} }: KubeconfigParts): string {
  const file = join(path, "kubeconfig");
  const config = {
    "current-context": "here",
    contexts: [{ name: "here", context: { cluster: "c", user: "u" } }],
    clusters: [{ name: "c", cluster: { server, ...cluster } }],
    users: [{ name: "u", user }],
  };
  writeFileSync(file, stringify(config));
  return file;
}

const base64 = (text: string | undefined) => Buffer.from(text ?? "").toString("base64");
const LIST = { kind: "NodeList" };

test("a pod is its service account, at the address of the environment", async () => {
  expect(await (await inCluster()).ask()).toMatchObject(LIST);
});

test("a token that is rotated is used from the next request on", async () => {
  const { server, path, ask } = await inCluster();
  await ask();
  server.acceptTokens("rotated");
  await expect(ask()).rejects.toMatchObject({ code: "KUBE_UNAUTHORIZED" });
  writeServiceAccount(path, { token: "rotated" });
  expect(await ask()).toMatchObject(LIST);
});

test("a token that is refused is not sent again as it is", async () => {
  const { server, ask } = await inCluster();
  server.acceptTokens();
  await expect(ask()).rejects.toMatchObject({ code: "KUBE_UNAUTHORIZED" });
  expect(server.requests).toHaveLength(1);
});

test("a certificate of another authority is refused until the authority's file is the new one", async () => {
  const { server, path, ask } = await inCluster();
  await ask();
  const ca = server.rotateCertificate();
  await expect(ask()).rejects.toMatchObject({ code: "KUBE_TLS" });
  writeServiceAccount(path, { ca, token: AGENT_TOKEN });
  expect(await ask()).toMatchObject(LIST);
});

test("a token that isn't there is a problem with a path, until it is there", async () => {
  const { path, ask } = await inCluster();
  rmSync(join(path, "token"));
  await expect(ask()).rejects.toMatchObject({
    code: "KUBE_CREDENTIALS",
    message: expect.stringContaining(`${path}/token`),
  });
  writeServiceAccount(path, { token: AGENT_TOKEN });
  expect(await ask()).toMatchObject(LIST);
});

test("outside of a pod it has to be said where the API server is", () => {
  expect(() => openConnection({ service: { host: undefined, port: undefined } })).toThrow("KUBERNETES_SERVICE_HOST");
  expect(() => openConnection({ apiServer: "10.0.0.1:6443" })).toThrow('"10.0.0.1:6443" is not the URL');
});

test("an IPv6 address of the environment is put in brackets", () => {
  expect(openConnection({ service: { host: "fd00::1", port: "443" } }).server).toBe("https://[fd00::1]");
});

test.each(["data", "files"])("a kubeconfig has the authority and the token as %s", async (form) => {
  const server = await startServer();
  const path = directory();
  writeServiceAccount(path, { ca: server.ca, token: AGENT_TOKEN });
  const parts =
    form === "data"
      ? { cluster: { "certificate-authority-data": base64(server.ca) }, user: { token: AGENT_TOKEN } }
      : { cluster: { "certificate-authority": "ca.crt" }, user: { tokenFile: "token", token: "not this one" } };
  const kubeconfig = writeKubeconfig(path, server.url, parts);
  expect(await asker(openConnection({ kubeconfig }))()).toMatchObject(LIST);
});

test("the server's URL of the configuration is used in place of the kubeconfig's", async () => {
  const server = await startServer();
  const parts = { cluster: { "certificate-authority-data": base64(server.ca) }, user: { token: AGENT_TOKEN } };
  const kubeconfig = writeKubeconfig(directory(), "https://127.0.0.1:1", parts);
  expect(await asker(openConnection({ kubeconfig, apiServer: server.url }))()).toMatchObject(LIST);
});

test.each([
  ["the name that the certificate has to have", { "tls-server-name": "kubernetes" }],
  ["that any certificate will do", { "insecure-skip-tls-verify": true, "certificate-authority-data": undefined }],
])("a kubeconfig may say %s", async (_, cluster) => {
  const server = await startServer();
  const parts = {
    cluster: { "certificate-authority-data": base64(server.ca), ...cluster },
    user: { token: AGENT_TOKEN },
  };
  const kubeconfig = writeKubeconfig(directory(), server.url, parts);
  expect(await asker(openConnection({ kubeconfig }))()).toMatchObject(LIST);
});

test("a certificate of another name is refused", async () => {
  const server = await startServer();
  const cluster = { "certificate-authority-data": base64(server.ca), "tls-server-name": "somebody-else" };
  const kubeconfig = writeKubeconfig(directory(), server.url, { cluster, user: { token: AGENT_TOKEN } });
  await expect(asker(openConnection({ kubeconfig }))()).rejects.toMatchObject({ code: "KUBE_TLS" });
});

test("a client's certificate is shown to the server, from data or from files", async () => {
  const { ca, cert, key } = makeCertificate();
  const server = createServer({ ca, cert, key, requestCert: true }, (request, response) => {
    response.end(JSON.stringify((request.socket as TLSSocket).getPeerCertificate().subject.CN));
  });
  onTestFinished(() => void server.close());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const path = directory();
  writeFileSync(join(path, "tls.crt"), cert);
  writeFileSync(join(path, "tls.key"), key);
  for (const user of [
    { "client-certificate-data": base64(cert), "client-key-data": base64(key) },
    { "client-certificate": "tls.crt", "client-key": "tls.key" },
  ]) {
    const parts = { cluster: { "certificate-authority-data": base64(ca) }, user };
    expect(await asker(openConnection({ kubeconfig: writeKubeconfig(path, url, parts) }))()).toBe("kube-apiserver");
  }
});

test("a credential plugin is run, is asked again once what it gave is refused, and not before", async () => {
  const server = await startServer();
  const path = directory();
  writeFileSync(
    join(path, "plugin.sh"),
    `#!/bin/sh
echo run >> "$(dirname "$0")/runs"
case "$KUBERNETES_EXEC_INFO" in *client.authentication.k8s.io/v1*) ;; *) exit 1;; esac
printf '{"status":{"token":"%s"}}' "$(cat "$(dirname "$0")/$1")"\n`,
    { mode: 0o700 },
  );
  writeFileSync(join(path, "token"), AGENT_TOKEN);
  const exec = { apiVersion: "client.authentication.k8s.io/v1", command: "./plugin.sh", args: ["token"] };
  const parts = { cluster: { "certificate-authority-data": base64(server.ca) }, user: { exec } };
  const ask = asker(openConnection({ kubeconfig: writeKubeconfig(path, server.url, parts) }));
  const runs = () =>
    execFileSync("wc", ["-l", join(path, "runs")])
      .toString()
      .split(" ")[0];
  expect(await Promise.all([ask(), ask()])).toMatchObject([LIST, LIST]);
  expect(await ask()).toMatchObject(LIST);
  expect(runs()).toBe("1");
  server.acceptTokens("another");
  writeFileSync(join(path, "token"), "another");
  expect(await Promise.all([ask(), ask()])).toMatchObject([LIST, LIST]);
  expect(runs()).toBe("2");
});

test("a credential plugin that fails is named, with what it says", async () => {
  const path = directory();
  const exec = { command: "sh", args: ["-c", "echo no ticket >&2; exit 3"] };
  const kubeconfig = writeKubeconfig(path, "https://127.0.0.1:1", { user: { exec } });
  await expect(openConnection({ kubeconfig }).access()).rejects.toMatchObject({
    code: "KUBE_CREDENTIALS",
    message: `the credential plugin "sh" of ${kubeconfig} failed: no ticket`,
  });
});

test.each([
  ["is not there", "", /ENOENT/],
  ["is no YAML", "a: [", /can't be read/],
  ["has no context of that name", "current-context: x", /has no context "x"/],
])("a kubeconfig that %s is a problem with its path", async (_, text, message) => {
  const kubeconfig = join(directory(), "kubeconfig");
  if (text !== "") writeFileSync(kubeconfig, text);
  const asked = openConnection({ kubeconfig }).access();
  await expect(asked).rejects.toMatchObject({ code: "KUBE_CONFIG", message: expect.stringMatching(message) });
  await expect(asked).rejects.toThrow(kubeconfig);
});

test.each([
  ["auth-provider", { user: { "auth-provider": { name: "oidc" } } }],
  ["as", { user: { as: "somebody" } }],
  ["proxy-url", { cluster: { "proxy-url": "http://proxy" } }],
])("a kubeconfig with %s is refused rather than used without", async (field, parts) => {
  const kubeconfig = writeKubeconfig(directory(), "https://127.0.0.1:1", parts);
  await expect(openConnection({ kubeconfig }).access()).rejects.toThrow(`has ${field} for its`);
});
