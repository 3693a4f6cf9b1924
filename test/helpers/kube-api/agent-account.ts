// SPDX-License-Identifier: Apache-2.0
//
// The service account of the agents, on a server that checks rights.
import { type Admin, ApiRefusal } from "./admin.ts";

/** rbac.authorization.k8s.io/v1 PolicyRule, of resources. */
export interface PolicyRule {
  readonly apiGroups: readonly string[];
  readonly resources: readonly string[];
  readonly resourceNames?: readonly string[];
  readonly verbs: readonly string[];
}

const NAMESPACE = "flatnet";
const NAME = "flatnet-agent";
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

/** A token of the account, as kubelet asks for one: it ends after ten minutes, the least there is. */
export async function issueToken(admin: Admin): Promise<string> {
  const { status } = await admin.create(`${ACCOUNTS}/${NAME}/token`, {
    apiVersion: "authentication.k8s.io/v1",
    kind: "TokenRequest",
    spec: { expirationSeconds: 600 },
  });
  return (status as { token: string }).token;
}

/** Every token of the account becomes invalid: it is another one from now on, with the same name and rights. */
export async function replaceAccount(admin: Admin): Promise<void> {
  await admin.delete(`${ACCOUNTS}/${NAME}`);
  await admin.create(ACCOUNTS, { metadata: { name: NAME } });
}

async function unlessThere(created: Promise<unknown>): Promise<void> {
  try {
    await created;
  } catch (error) {
    if (!(error instanceof ApiRefusal && error.reason === "AlreadyExists")) throw error;
  }
}
