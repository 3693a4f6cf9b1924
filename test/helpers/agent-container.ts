// SPDX-License-Identifier: Apache-2.0
//
// A DaemonSet's container, as kubelet would ask the runtime for it (CRI): what it may do and what it sees of the node is
// read from the manifest. Only the programs are not those of an image: they and the machine's libraries are mounted.

import { mkdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { V1Container, V1DaemonSet } from "@kubernetes/client-node";
import { DEPLOY, parseManifests } from "../../scripts/manifests.ts";
import { built } from "./plugin.ts";

/** What kubelet masks and makes read-only of every container that isn't privileged (GetDefault… of pkg/securitycontext). */
const MASKED = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list", "/sys/firmware"];
const READ_ONLY = ["/proc/asound", "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/** Where kubelet puts the token of a pod's service account. */
export const SERVICE_ACCOUNT_DIR = "/var/run/secrets/kubernetes.io/serviceaccount";

export interface AgentContainer {
  /** For the sandbox: `linux.securityContext`. */
  readonly sandbox: object;
  /** For the container: further fields of ContainerConfig. */
  readonly container: object;
}

/**
 * The first container of a file in deploy/, the one that does something to the node.
 * @param directory stands for the node's root: each hostPath is a directory in it, and so are those of the configuration and of the service account
 * @param real what is mounted from where it really is: hostPath to path, which the container sees under that path
 * @param env what kubelet sets, the variables of the manifest's among them
 */
export function agentContainer(
  name: string,
  directory: string,
  real: Readonly<Record<string, string>>,
  env: Readonly<Record<string, string>> = {},
): AgentContainer {
  const manifests = parseManifests(readFileSync(join(DEPLOY, name), "utf8"), name);
  const daemonSet = manifests.find(({ kind }) => kind === "DaemonSet") as unknown as V1DaemonSet;
  const spec = daemonSet.spec?.template.spec;
  const [container] = [...(spec?.initContainers ?? []), ...(spec?.containers ?? [])];
  if (spec === undefined || container === undefined) throw new Error(`${name} has no container`);
  const mounts = (container.volumeMounts ?? []).map(({ name: volumeName, mountPath, readOnly, mountPropagation }) => {
    const path = spec.volumes?.find((volume) => volume.name === volumeName)?.hostPath?.path ?? mountPath;
    const elsewhere = real[path];
    const hostPath = elsewhere ?? join(directory, path);
    if (elsewhere === undefined) mkdirSync(hostPath, { recursive: true });
    return {
      // A namespace's path is the same for the runtime, the plugin and the agent.
      containerPath: mountPropagation === undefined ? mountPath : hostPath,
      hostPath,
      readonly: readOnly ?? false,
      propagation: mountPropagation === "HostToContainer" ? "PROPAGATION_HOST_TO_CONTAINER" : "PROPAGATION_PRIVATE",
    };
  });
  const account = join(directory, SERVICE_ACCOUNT_DIR);
  mkdirSync(account, { recursive: true });
  const programs = { "/usr/local/bin": dirname(built("flatnetd")), "/lib": "/usr/lib", "/lib64": "/usr/lib64" };
  const readOnly = {
    ...programs,
    ...(spec.automountServiceAccountToken !== false && { [SERVICE_ACCOUNT_DIR]: account }),
  };
  return {
    sandbox: { namespaceOptions: { network: spec.hostNetwork === true ? "NODE" : "POD", pid: "CONTAINER" } },
    container: {
      command: container.command,
      args: container.args?.map((arg) => arg.replace(/\$\((\w+)\)/g, (_, variable: string) => env[variable] ?? "")),
      envs: Object.entries(env).map(([key, value]) => ({ key, value })),
      mounts: [
        ...mounts,
        ...Object.entries(readOnly).map(([containerPath, hostPath]) => ({ containerPath, hostPath, readonly: true })),
      ],
      linux: { securityContext: securityContext(container) },
    },
  };
}

function securityContext({ securityContext: context }: V1Container): object {
  return {
    capabilities: {
      addCapabilities: context?.capabilities?.add,
      dropCapabilities: context?.capabilities?.drop,
    },
    privileged: context?.privileged,
    namespaceOptions: { network: "NODE", pid: "CONTAINER" },
    runAsUser: { value: context?.runAsUser },
    runAsGroup: { value: context?.runAsGroup },
    readonlyRootfs: context?.readOnlyRootFilesystem,
    noNewPrivs: context?.allowPrivilegeEscalation === false,
    maskedPaths: MASKED,
    readonlyPaths: READ_ONLY,
    seccomp: { profileType: "RuntimeDefault" },
  };
}
