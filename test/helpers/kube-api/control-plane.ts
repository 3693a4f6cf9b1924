// SPDX-License-Identifier: Apache-2.0
//
// A real API server: etcd and kube-apiserver, by themselves. No controller runs beside them: whatever a controller would
// do (subnets of nodes, service accounts of namespaces, pods of a DaemonSet) is left to the test.
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Cleanup, type Daemon, startDaemon } from "../daemon.ts";
import { createAdmin } from "./admin.ts";
import type { ApiServer } from "./api-server.ts";

/** Its `stop` is a kill, because told to end it would wait for watches; etcd stays. */
export interface ControlPlane extends ApiServer {
  readonly ca: string;
  /** The file that `ca` is in. */
  readonly caFile: string;
}

/** One request, as the authorizer saw it. */
export interface AuditEntry {
  readonly user: string;
  readonly verb: string;
  /** "" is the core group. */
  readonly group: string;
  /** "nodes", or with its subresource "nodes/status". */
  readonly resource: string;
  readonly namespace: string;
  readonly name: string;
  /** HTTP status of the answer. */
  readonly status: number;
}

/**
 * Directory of etcd and kube-apiserver, as controller-runtime's envtest has it; undefined where there is none, and then
 * that is said once.
 */
export function kubebuilderAssets(): string | undefined {
  const directory = process.env["KUBEBUILDER_ASSETS"] ?? "";
  const missing = ["etcd", "kube-apiserver"].filter((name) => !existsSync(join(directory, name)));
  if (directory !== "" && missing.length === 0) return directory;
  const reason = directory === "" ? "KUBEBUILDER_ASSETS is not set" : `${directory} has no ${missing.join(" and no ")}`;
  process.stderr.write(`skipped: tests with a real API server: ${reason}\n`);
  return undefined;
}

/** Starts both, and waits until the API server is ready. `cleanup` ends them and removes their files. */
export async function startControlPlane(assets: string, cleanup: Cleanup): Promise<ControlPlane> {
  const directory = mkdtempSync(join(tmpdir(), "kube-apiserver-"));
  cleanup.add(() => rmSync(directory, { recursive: true, force: true }));
  const file = (name: string) => join(directory, name);
  const [etcdPort, peerPort, port] = await freePorts(3);
  const etcdUrl = `http://127.0.0.1:${etcdPort}`;
  const peerUrl = `http://127.0.0.1:${peerPort}`;
  const etcd = await startDaemon({
    argv: [
      ...[join(assets, "etcd"), "--data-dir", file("etcd"), "--unsafe-no-fsync", "--log-level", "warn"],
      ...["--listen-client-urls", etcdUrl, "--advertise-client-urls", etcdUrl],
      ...["--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl],
      ...["--initial-cluster", `default=${peerUrl}`],
    ],
    ready: async () => (await fetch(`${etcdUrl}/health`)).ok,
  });
  cleanup.add(() => etcd.stop());

  const token = randomBytes(16).toString("hex");
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const secret = { mode: 0o600 };
  writeFileSync(file("tokens.csv"), `${token},admin,admin,system:masters\n`, secret);
  writeFileSync(file("sa.pub"), publicKey.export({ type: "spki", format: "pem" }));
  writeFileSync(file("sa.key"), privateKey.export({ type: "pkcs8", format: "pem" }), secret);
  writeFileSync(file("audit.yaml"), AUDIT_POLICY);
  // It makes its own certificate there, and signs it with an authority that it forgets: the file has both.
  const caFile = file("apiserver.crt");
  const argv = [
    ...[join(assets, "kube-apiserver"), "--bind-address", "127.0.0.1", "--secure-port", `${port}`],
    ...["--cert-dir", directory, "--etcd-servers", etcdUrl, "--token-auth-file", file("tokens.csv")],
    ...["--service-account-issuer", "https://kubernetes.default.svc.cluster.local"],
    ...["--service-account-key-file", file("sa.pub"), "--service-account-signing-key-file", file("sa.key")],
    ...["--service-cluster-ip-range", "10.96.0.0/16", "--allow-privileged"],
    // A machine without a default route would have no address to tell; nobody is told this one.
    ...["--advertise-address", "192.0.2.1", "--endpoint-reconciler-type", "none"],
    ...["--authorization-mode", "Node,RBAC", "--enable-admission-plugins", "NodeRestriction"],
    // Nobody makes the service accounts that pods would have to have.
    ...["--disable-admission-plugins", "ServiceAccount"],
    ...["--audit-policy-file", file("audit.yaml"), "--audit-log-path", file("audit.log")],
    "--audit-log-mode=blocking",
  ];
  const url = `https://127.0.0.1:${port}`;
  let daemon: Daemon | undefined;
  const start = async () => {
    daemon ??= await startDaemon({
      argv,
      ready: async () => {
        await createAdmin({ url, token, ca: readFileSync(caFile, "utf8") }).request("GET", "/readyz");
        return true;
      },
      timeoutMs: 90_000,
    });
  };
  const stop = async () => {
    await daemon?.stop("SIGKILL");
    daemon = undefined;
  };
  cleanup.add(stop);
  await start();
  const ca = readFileSync(caFile, "utf8");
  const admin = createAdmin({ url, token, ca });
  return { url, ca, caFile, token, admin, start, stop, audit: () => readAudit(file("audit.log")) };
}

/** Everything, once it is answered; a watch already when it begins. Bodies aren't kept. */
const AUDIT_POLICY = `apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{ level: Metadata, omitStages: [RequestReceived] }]
`;

interface AuditEvent {
  readonly auditID: string;
  readonly user?: { readonly username?: string };
  readonly verb: string;
  readonly objectRef?: Partial<Record<"resource" | "subresource" | "apiGroup" | "namespace" | "name", string>>;
  readonly responseStatus?: { readonly code?: number };
}

function readAudit(path: string): AuditEntry[] {
  if (!existsSync(path)) return [];
  const entries = new Map<string, AuditEntry>();
  // The last line may still be being written.
  for (const line of readFileSync(path, "utf8").split("\n").slice(0, -1)) {
    const { auditID, user, verb, objectRef = {}, responseStatus }: AuditEvent = JSON.parse(line);
    const { resource = "", subresource, apiGroup = "", namespace = "", name = "" } = objectRef;
    entries.set(auditID, {
      ...{ user: user?.username ?? "", verb, group: apiGroup, namespace, name, status: responseStatus?.code ?? 0 },
      resource: subresource === undefined ? resource : `${resource}/${subresource}`,
    });
  }
  return [...entries.values()];
}

/** Ports of 127.0.0.1 that were free just now, all different. */
async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer());
  try {
    return await Promise.all(
      servers.map(async (server) => {
        await new Promise<void>((resolve, reject) => {
          server.once("error", reject);
          server.listen(0, "127.0.0.1", resolve);
        });
        return (server.address() as { port: number }).port;
      }),
    );
  } finally {
    for (const server of servers) server.close();
  }
}
