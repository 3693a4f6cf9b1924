// SPDX-License-Identifier: Apache-2.0
//
// NODE V4 V6: the double of an API server with 5,000 nodes and this one, which has 250 pods, as a process of its own. It says
// where it is in one JSON line. From SIGUSR2 to SIGHUP kubelets report their nodes' status, each in five minutes once.

import { startDouble } from "../test/helpers/kube-api/double.ts";
import { type Target, targetOf } from "../test/helpers/kube-api/kinds.ts";
import { nodeObject, ownNode, podObject } from "./kube-cluster.ts";
import { entryOf, NODES } from "./route-cluster.ts";

const HEARTBEAT_MS = 300_000;
const PODS = 250;

const [name = "", v4 = "", v6 = ""] = process.argv.slice(2);
const double = await startDouble({ tls: true });
const { kind: nodes } = targetOf("/api/v1/nodes") as Target;
const { kind: pods } = targetOf("/api/v1/namespaces/any/pods") as Target;
for (let n = 1; n <= NODES; n++) double.store.create(nodes, "", nodeObject(n));
double.store.create(nodes, "", ownNode(name, [v4, v6]));
for (let n = 1; n <= PODS; n++) {
  const pod = podObject(n, name);
  const namespace = pod.metadata.namespace as string;
  double.store.create(pods, namespace, pod);
  double.store.update(pods, namespace, pod.metadata.name, "status", (before) => ({ ...before, status: pod.status }));
}
double.store.compact();
process.stdout.write(`${JSON.stringify({ url: double.url, ca: double.ca, token: double.token })}\n`);

let beats = 0;
function beat(): void {
  const n = (beats % NODES) + 1;
  const { status } = nodeObject(n, ++beats);
  double.store.update(nodes, "", entryOf(n).name, "status", (before) => ({ ...before, status }));
  // What was sent is nobody's any more.
  double.store.compact();
}
let timer: NodeJS.Timeout | undefined;
process.on("SIGUSR2", () => {
  timer ??= setInterval(beat, HEARTBEAT_MS / NODES);
});
process.on("SIGHUP", () => {
  clearInterval(timer);
  timer = undefined;
});
