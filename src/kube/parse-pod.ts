// SPDX-License-Identifier: Apache-2.0
//
// core/v1 Pod. Pure; never throws.
import { AddressError, parseAddress } from "../net/address.ts";
import { ANNOTATION_PREFIX, type KubePod, type NamedPort, type TransportProtocol } from "./objects.ts";
import { fieldsOf, listOf, type Raw, textOf, wordsOf } from "./raw.ts";

/** Annotations of others that say something about a pod's network. */
const BANDWIDTH = ["kubernetes.io/ingress-bandwidth", "kubernetes.io/egress-bandwidth"];
const PROTOCOLS: readonly string[] = ["TCP", "UDP", "SCTP"] satisfies TransportProtocol[];

/** @returns undefined for what has no name or no namespace and so is no pod; what else is wrong is left out */
export function parsePod(raw: unknown): KubePod | undefined {
  const { metadata, spec, status } = fieldsOf(raw);
  const { namespace, name, uid, labels, annotations } = fieldsOf(metadata);
  if (textOf(name) === "" || textOf(namespace) === "") return undefined;
  const { nodeName, hostNetwork, containers, initContainers } = fieldsOf(spec);
  const { phase } = fieldsOf(status);
  const sidecars = listOf(initContainers).filter((container) => fieldsOf(container)["restartPolicy"] === "Always");
  return {
    namespace: textOf(namespace),
    name: textOf(name),
    uid: textOf(uid),
    nodeName: textOf(nodeName),
    hostNetwork: hostNetwork === true,
    addresses: podIPs(fieldsOf(status)),
    labels: wordsOf(labels),
    annotations: wordsOf(annotations, (key) => key.startsWith(ANNOTATION_PREFIX) || BANDWIDTH.includes(key)),
    ports: [...listOf(containers), ...sidecars].flatMap(namedPorts),
    ended: phase === "Succeeded" || phase === "Failed",
  };
}

function podIPs({ podIP, podIPs: several }: Raw): Uint8Array[] {
  const texts = listOf(several).map((entry) => textOf(fieldsOf(entry)["ip"]));
  return (texts.length > 0 ? texts : [textOf(podIP)]).flatMap((text) => {
    if (text === "") return [];
    try {
      return [parseAddress(text)];
    } catch (error) {
      // Only kubelet writes it. What no packet can come from needs no rule.
      if (error instanceof AddressError) return [];
      throw error;
    }
  });
}

function namedPorts(container: unknown): NamedPort[] {
  return listOf(fieldsOf(container)["ports"]).flatMap((entry) => {
    const { name, containerPort, protocol = "TCP" } = fieldsOf(entry);
    const port = Number.isInteger(containerPort) ? (containerPort as number) : 0;
    if (textOf(name) === "" || port < 1 || port > 65_535 || !PROTOCOLS.includes(textOf(protocol))) return [];
    return [{ name: textOf(name), protocol: protocol as TransportProtocol, port }];
  });
}
