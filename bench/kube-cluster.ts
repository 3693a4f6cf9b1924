// SPDX-License-Identifier: Apache-2.0
//
// The nodes of the Kubernetes cases as kubelets report them: about 10 kB each, most of it images and conditions, of which
// flatnet needs next to nothing. Pure.
import type { ApiObject } from "../test/helpers/kube-api/admin.ts";
import { entryOf } from "./route-cluster.ts";

/** kubelet keeps 50 of them in the status. */
const IMAGES = 50;
const CONDITIONS = [
  ["MemoryPressure", "False", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"],
  ["DiskPressure", "False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"],
  ["PIDPressure", "False", "KubeletHasSufficientPID", "kubelet has sufficient PID available"],
  ["Ready", "True", "KubeletReady", "kubelet is posting ready status"],
] as const;
const CAPACITY = {
  cpu: "16",
  "ephemeral-storage": "104846316Ki",
  "hugepages-1Gi": "0",
  "hugepages-2Mi": "0",
  memory: "65843132Ki",
  pods: "110",
};

/** An object that can be created. */
interface Seed extends ApiObject {
  readonly metadata: ApiObject["metadata"] & Readonly<Record<string, unknown>>;
  readonly status: Readonly<Record<string, unknown>>;
}

/** The n-th node of the cluster in route-cluster.ts. A heartbeat changes times, and nothing that flatnet reads. */
export function nodeObject(n: number, heartbeat = 0): Seed {
  const { name, addresses, podCIDRs } = entryOf(n);
  const time = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + 1000 * seconds).toISOString().replace(".000Z", "Z");
  const digest = (i: number) => (n * IMAGES + i).toString(16).padStart(64, "0123456789abcdef");
  return {
    metadata: {
      name,
      labels: {
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "node.kubernetes.io/instance-type": "standard-16",
        "topology.kubernetes.io/region": "region-1",
        "topology.kubernetes.io/zone": `region-1-${"abc"[n % 3]}`,
      },
      annotations: {
        "node.alpha.kubernetes.io/ttl": "300",
        "volumes.kubernetes.io/controller-managed-attach-detach": "true",
      },
      managedFields: [
        {
          manager: "kubelet",
          operation: "Update",
          apiVersion: "v1",
          time: time(heartbeat),
          fieldsType: "FieldsV1",
          fieldsV1: { "f:status": { "f:conditions": conditionFields(), "f:images": {} } },
          subresource: "status",
        },
      ],
    },
    spec: { podCIDR: podCIDRs[0], podCIDRs, providerID: `example:///region-1/${name}` },
    status: {
      capacity: CAPACITY,
      allocatable: CAPACITY,
      conditions: CONDITIONS.map(([type, status, reason, message]) => ({
        ...{ type, status, lastHeartbeatTime: time(heartbeat), lastTransitionTime: time(n), reason, message },
      })),
      addresses: [
        ...addresses.map((address) => ({ type: "InternalIP", address })),
        { type: "Hostname", address: name },
      ],
      daemonEndpoints: { kubeletEndpoint: { Port: 10250 } },
      nodeInfo: {
        machineID: digest(0).slice(32),
        systemUUID: `00000000-0000-4000-9000-${n.toString(16).padStart(12, "0")}`,
        bootID: `00000000-0000-4000-a000-${n.toString(16).padStart(12, "0")}`,
        kernelVersion: "6.12.0-1-amd64",
        osImage: "Debian GNU/Linux 13 (trixie)",
        containerRuntimeVersion: "containerd://2.1.4",
        kubeletVersion: "v1.36.2",
        kubeProxyVersion: "",
        operatingSystem: "linux",
        architecture: "amd64",
      },
      images: Array.from({ length: IMAGES }, (_, i) => ({
        names: [
          `registry.example.com/team-${i % 7}/service-${i}@sha256:${digest(i)}`,
          `registry.example.com/s-${i}:v1.${i}`,
        ],
        sizeBytes: 10_000_000 + i,
      })),
    },
  };
}

function conditionFields(): object {
  return Object.fromEntries(
    CONDITIONS.map(([type]) => [`k:{"type":"${type}"}`, { "f:lastHeartbeatTime": {}, "f:status": {} }]),
  );
}

/** A pod of this node, as kubelet reports it, about 3 kB. */
export function podObject(n: number, nodeName: string): Seed {
  const name = `web-7d4b9c6f5d-${n.toString(36).padStart(5, "x")}`;
  const env = Array.from({ length: 20 }, (_, i) => ({ name: `SETTING_${i}`, value: `value ${i} of ${name}` }));
  return {
    metadata: { name, namespace: `team-${n % 10}`, labels: { app: "web", "pod-template-hash": "7d4b9c6f5d" } },
    spec: { nodeName, containers: [{ name: "web", image: "registry.example.com/s-1:v1.1", env }] },
    status: { phase: "Running", podIP: `10.250.0.${n}`, podIPs: [{ ip: `10.250.0.${n}` }] },
  };
}

/** The measured node itself. */
export function ownNode(name: string, [v4, v6]: readonly [string, string]): Seed {
  const podCIDRs = ["10.250.0.0/23", "fd00:250::/64"];
  return {
    metadata: { name },
    spec: { podCIDR: podCIDRs[0], podCIDRs },
    status: { addresses: [v4, v6].map((address) => ({ type: "InternalIP", address })) },
  };
}
