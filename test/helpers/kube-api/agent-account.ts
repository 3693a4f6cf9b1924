// SPDX-License-Identifier: Apache-2.0
//
// The service account of the agents, as deploy/ has it, on a server that checks rights.
import { type Admin, ApiRefusal } from "./admin.ts";

/** rbac.authorization.k8s.io/v1 PolicyRule, of resources. */
export interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

const NAMESPACE = "flatnet-system";
const NAME = "flatnet";
const RBAC = "/apis/rbac.authorization.k8s.io/v1";
const ACCOUNTS = `/api/v1/namespaces/${NAMESPACE}/serviceaccounts`;

/** Makes the account, or gives it these rights and no others. */
export async function grant(admin: Admin, rules: readonly PolicyRule[]): Promise<void> {
  const metadata = { name: NAME };
  const kind = { apiVersion: "rbac.authorization.k8s.io/v1", metadata };
  await unlessThere(admin.create("/api/v1/namespaces", { metadata: { name: NAMESPACE } }));
  await unlessThere(admin.create(ACCOUNTS, { metadata }));
  await unlessThere(admin.create(`${RBAC}/clusterroles`, { ...kind, kind: "ClusterRole", rules: [] }));
  const roleRef = { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: NAME };
  const subjects = [{ kind: "ServiceAccount", name: NAME, namespace: NAMESPACE }];
  await unlessThere(
    admin.create(`${RBAC}/clusterrolebindings`, { ...kind, kind: "ClusterRoleBinding", roleRef, subjects }),
  );
  await admin.patch(`${RBAC}/clusterroles/${NAME}`, { rules });
}

/** A token of the account, as kubelet gets one for the agent's pod on a node: it ends after ten minutes, the least there is. */
export async function issueToken(admin: Admin, nodeName: string): Promise<string> {
  const pods = `/api/v1/namespaces/${NAMESPACE}/pods`;
  const name = `${NAME}-${nodeName}`;
  const containers = [{ name: "flatnetd", image: "flatnet" }];
  const spec = { nodeName, serviceAccountName: NAME, hostNetwork: true, containers };
  await unlessThere(admin.create(pods, { metadata: { name }, spec }));
  const { uid } = (await admin.get(`${pods}/${name}`)).metadata;
  const { status } = await admin.create(`${ACCOUNTS}/${NAME}/token`, {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { expirationSeconds: 600, boundObjectRef: { apiVersion: "v1", kind: "Pod", name, uid } },
  });
  return (status as { token: string }).token;
}

async function unlessThere(created: Promise<unknown>): Promise<void> {
  try {
    await created;
  } catch (error) {
    if (!(error instanceof ApiRefusal && error.reason === "AlreadyExists")) throw error;
  }
}
