// SPDX-License-Identifier: Apache-2.0
//
// The double of an API server with the cluster of policy-cluster.ts and its node-1, as a process of its own. It says where it is in one
// JSON line.
import type { ApiObject } from "../test/helpers/kube-api/admin.ts";
import { startDouble } from "../test/helpers/kube-api/double.ts";
import { type Target, targetOf } from "../test/helpers/kube-api/kinds.ts";
import { ownNode } from "./kube-cluster.ts";
import { APPS, NAMESPACES, namespaceObject, PODS, podObject, policyObject } from "./policy-cluster.ts";

const [v4 = "", v6 = ""] = process.argv.slice(2);
const double = await startDouble({ tls: true });
const kindAt = (path: string) => (targetOf(path) as Target).kind;
const nodes = kindAt("/api/v1/nodes");
const namespaces = kindAt("/api/v1/namespaces");
const pods = kindAt("/api/v1/namespaces/any/pods");
const policies = kindAt("/apis/networking.k8s.io/v1/namespaces/any/networkpolicies");
double.store.create(nodes, "", ownNode("node-1", [v4, v6]));
for (let n = 0; n < NAMESPACES; n++) double.store.create(namespaces, "", namespaceObject(n));
for (let n = 0; n < NAMESPACES * APPS; n++) {
  const policy: ApiObject = policyObject(n);
  double.store.create(policies, policy.metadata.namespace as string, policy);
}
for (let n = 0; n < PODS; n++) {
  const pod = podObject(n);
  const { namespace, name } = pod.metadata;
  double.store.create(pods, namespace, pod);
  double.store.update(pods, namespace, name, "status", (before) => ({ ...before, status: pod.status }));
}
double.store.compact();
process.stdout.write(`${JSON.stringify({ url: double.url, ca: double.ca, token: double.token })}\n`);
