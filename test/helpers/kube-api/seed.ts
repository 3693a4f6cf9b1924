// SPDX-License-Identifier: Apache-2.0
//
// Objects for tests, as a cluster has them.

/** Node number 0 to 65,279: 172.16.x.x and fd00:16::x, with the subnets 10.x.y.0/24 and fd00:10:z::/64. */
export function nodeObject(number: number, name = `node-${number}`): object {
  const [high, low] = [number >> 8, number & 0xff];
  const podCIDRs = [`10.${high}.${low}.0/24`, `fd00:10:${number.toString(16)}::/64`];
  return {
    metadata: { name, labels: { "kubernetes.io/hostname": name } },
    spec: { podCIDR: podCIDRs[0], podCIDRs },
    status: {
      addresses: [
        { type: "InternalIP", address: `172.16.${high}.${low}` },
        { type: "InternalIP", address: `fd00:16::${number.toString(16)}` },
        { type: "Hostname", address: name },
      ],
    },
  };
}

export interface PodFacts {
  readonly namespace?: string;
  readonly name: string;
  readonly nodeName?: string;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** Without a status, which is kubelet's. */
export function podObject({ namespace = "default", name, nodeName, labels = {}, annotations = {} }: PodFacts): object {
  const containers = [
    { name: "main", image: "pause", ports: [{ name: "http", containerPort: 8080, protocol: "TCP" }] },
  ];
  return {
    metadata: { name, namespace, labels, annotations },
    spec: { ...(nodeName !== undefined && { nodeName }), containers },
  };
}

export function namespaceObject(name: string, labels: Readonly<Record<string, string>> = {}): object {
  return { metadata: { name, labels: { "kubernetes.io/metadata.name": name, ...labels } } };
}
