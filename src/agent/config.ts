// SPDX-License-Identifier: Apache-2.0
//
// The daemon's configuration: a YAML file, and flags for most of its keys, which win. Read once at start, checked
// as a whole, and handed on in parts; no other file of the daemon knows where a value came from.
import * as v from "valibot";
import type { BgpSettings } from "../bgp/settings.ts";
import type { ChainedPlugin } from "../footprint/conflist.ts";
import type { AddressRules } from "../ipam/layout.ts";
import type { Prefix } from "../net/prefix.ts";
import { invalid } from "./config-error.ts";
import { readConfigFile } from "./config-file.ts";
import { FLAG_OF_KEY, parseFlags } from "./config-flags.ts";
import { describe, type LOG_LEVELS, parseHostPort, Schema, SchemaInKubernetes } from "./config-schema.ts";
import { checkRules, parseRanges, parseSubnets } from "./config-subnets.ts";
import type { EgressConf } from "./egress-keeper.ts";

export interface Config {
  readonly nodeName: string;
  /** This node's own subnets, at least one; none where Kubernetes is to say them. */
  readonly podCIDRs: readonly Prefix[];
  /** What in them is drained, excluded, or a pool's own; fits them. Without subnets it may be about any node's. */
  readonly rules: AddressRules;
  /** Where Kubernetes is, as the source of nodes; absent where it isn't asked. */
  readonly kubernetes: KubernetesConf | undefined;
  /** Directory of the database and the journal; made where it's missing. */
  readonly stateDir: string;
  /** Path of the gRPC socket. */
  readonly socket: string;
  /** The file that names the other nodes; absent on a node alone. */
  readonly peers: string | undefined;
  readonly routes: {
    /** Who makes the routes to peers: the daemon itself, or BIRD, by BGP. */
    readonly mode: "static" | "bgp";
    readonly bgp: BgpSettings;
    /** Number of the routing table of the routes to peers. */
    readonly table: number;
  };
  readonly logLevel: (typeof LOG_LEVELS)[number];
  /** MTU in bytes of pods; 0 takes the smallest of the uplinks. */
  readonly mtu: number;
  /** Drop what a pod sends from an address that isn't its own. */
  readonly antiSpoof: boolean;
  /** Put back what is taken away of living pods' links. */
  readonly repair: boolean;
  /** How long a released address rests, in seconds. */
  readonly coolDownSeconds: number;
  /** How long an attachment whose namespace is gone waits for its DEL, in seconds; 0 for ever. */
  readonly retireAfterSeconds: number;
  /** How long it stays known who held an address, in days; 0 for not at all. */
  readonly historyDays: number;
  readonly egress: EgressConf;
  /** How often the other nodes are asked whether packets arrive, in seconds; 0: not at all. */
  readonly probeSeconds: number;
  /** Where metrics are served; absent: nowhere. */
  readonly metricsAddress: { readonly host: string; readonly port: number } | undefined;
  /** Where the node's sysctls of the network are written: in a container, /proc/sys/net is read-only. */
  readonly sysctlDir: string;
  /** Where health is served; absent: nowhere. */
  readonly healthAddress: { readonly host: string; readonly port: number } | undefined;
  /** What the daemon does to this node's Node object in Kubernetes. */
  readonly node: {
    /** Key of the taint that it takes away once pods can be served; absent when there is none. */
    readonly startupTaint: string | undefined;
  };
  readonly cni: CniFilesConf;
  readonly policy: PolicyConf;
}

/** Kubernetes' network policies. */
export interface PolicyConf {
  /** Whether they are enforced; only with Kubernetes. */
  readonly enabled: boolean;
  /** What a pod may that nobody knows the labels of, in a namespace with policies, or before policies are known. */
  readonly onUnknown: "deny" | "allow";
  /** Whether the node reaches its own pods whatever their policies say: kubelet's probes come from there. */
  readonly allowFromNode: boolean;
  /** Whether ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) is enforced too; the agent must be allowed to read it. */
  readonly clusterPolicies: boolean;
}

/** What the daemon puts where runtimes look for plugins and networks. */
export interface CniFilesConf {
  /** Directory that the plugin is installed in; absent when somebody else does that. */
  readonly binDir: string | undefined;
  /** Directory that the conflist is written in; absent when somebody else does that. */
  readonly confDir: string | undefined;
  /** The conflist's name there. Runtimes take the first. */
  readonly confName: string;
  /** Plugins that are called behind flatnet. */
  readonly chained: readonly ChainedPlugin[];
}

/** How the API server is reached. Without a kubeconfig it is as a pod does: by its service account. */
export interface KubernetesConf {
  /** Path of a kubeconfig. */
  readonly kubeconfig: string | undefined;
  /** URL of the API server, in the place of the one that the kubeconfig or the pod's environment says. */
  readonly apiServer: string | undefined;
  /** Where the service account's token and CA are; the pod's usual directory where it isn't given. */
  readonly serviceAccountDir: string | undefined;
}

/**
 * @param args what follows the program's name
 * @param readFile for --config; throws like fs.readFileSync
 * @returns "help" when help was asked for
 * @throws ConfigError
 */
export function parseConfig(args: readonly string[], readFile: (path: string) => string): Config | "help" {
  const flags = parseFlags(args);
  if (flags.help) return "help";
  const file = flags.config === undefined ? {} : readConfigFile(flags.config, readFile);
  const given: Record<string, unknown> = { ...file };
  /** Keys as the person who set them knows them: by the flag, unless the file has the value that counts. */
  const names = new Map(
    Object.entries(file).flatMap(([key, value]) => namesIn(key, value).map((name) => [name, name])),
  );
  for (const [key, flag] of FLAG_OF_KEY) {
    const isGiven = flags.values.has(key);
    if (isGiven) put(given, key, flags.values.get(key));
    if (isGiven || !names.has(key)) names.set(key, flag);
  }
  const nameOf = (key: string) => names.get(key) ?? key;
  const inKubernetes = Object(given["kubernetes"])["enabled"] === true;
  const result = v.safeParse(inKubernetes ? SchemaInKubernetes : Schema, given);
  if (!result.success) throw invalid(result.issues.map((issue) => describe(issue, nameOf)));
  const { podCIDRs = [], drainingCIDRs, excluded, pools, peers, egress, ...rest } = result.output;
  if (inKubernetes && peers !== undefined) {
    throw invalid([`${nameOf("peers")} is ${peers}: with ${nameOf("kubernetes.enabled")} the nodes are Kubernetes'`]);
  }
  if (!inKubernetes && rest.policy.enabled === true) {
    throw invalid([`${nameOf("policy.enabled")} needs ${nameOf("kubernetes.enabled")}: policies are Kubernetes'`]);
  }
  const prefixes = parseSubnets(podCIDRs, nameOf("podCIDRs"));
  const rules: AddressRules = {
    draining: parseSubnets(drainingCIDRs, nameOf("drainingCIDRs")),
    excluded: parseRanges(excluded, nameOf("excluded")),
    pools: Object.entries(pools).map(([name, { ranges, namespaces }]) => {
      return { name, ranges: parseRanges(ranges, `pools.${name}.ranges`), namespaces };
    }),
  };
  // Those that are about the subnets of a node can only be compared with them: see own-rules.ts.
  if (prefixes.length > 0) checkRules(prefixes, rules);
  const mayHaveIPv6 = prefixes.length === 0 || prefixes.some((prefix) => prefix.family === 6);
  const [family, least] = mayHaveIPv6 ? [6, 1280] : [4, 68];
  if (rest.mtu !== 0 && rest.mtu < least) {
    throw invalid([`${nameOf("mtu")} is ${rest.mtu}: IPv${family} needs at least ${least}`]);
  }
  const knowsNodes = inKubernetes || peers !== undefined || egress.exceptCIDRs.length > 0;
  if (egress.masquerade && rest.routes.mode === "bgp" && !knowsNodes) {
    const problem = `${nameOf("egress.masquerade")} needs to know what is inside the cluster`;
    throw invalid([
      `${problem}: name the nodes (${nameOf("peers")}) or their subnets (${nameOf("egress.exceptCIDRs")})`,
    ]);
  }
  return {
    ...rest,
    podCIDRs: prefixes,
    rules,
    peers,
    kubernetes: inKubernetes ? parseKubernetes(rest.kubernetes) : undefined,
    egress: parseEgress(egress, nameOf),
    metricsAddress: parseHostPort(rest.metricsAddress),
    healthAddress: parseHostPort(rest.healthAddress),
    node: { startupTaint: rest.node.startupTaint },
    cni: { ...rest.cni, binDir: rest.cni.binDir, confDir: rest.cni.confDir },
    policy: { ...rest.policy, enabled: rest.policy.enabled ?? inKubernetes },
  };
}

function parseKubernetes({ kubeconfig, apiServer, serviceAccountDir }: Partial<KubernetesConf>): KubernetesConf {
  return { kubeconfig, apiServer, serviceAccountDir };
}

/** The name of a key, and of those within it. */
function namesIn(key: string, value: unknown): string[] {
  const inner = typeof value === "object" && value !== null && !Array.isArray(value) ? Object.keys(value) : [];
  return [key, ...inner.map((name) => `${key}.${name}`)];
}

/** Sets a key, or one within another: "egress.masquerade". What was read from the file stays as it was. */
function put(given: Record<string, unknown>, key: string, value: unknown): void {
  const [outer = "", inner] = key.split(".");
  const there = given[outer];
  if (inner === undefined) given[outer] = value;
  else given[outer] = { ...(typeof there === "object" ? there : {}), [inner]: value };
}

/** Exceptions may overlap whatever they like: they are one set. */
function parseEgress(
  { masquerade, exceptCIDRs }: { masquerade: boolean; exceptCIDRs: readonly string[] },
  nameOf: (key: string) => string,
): EgressConf {
  const name = nameOf("egress.exceptCIDRs");
  return { masquerade, exceptCIDRs: exceptCIDRs.flatMap((text) => parseSubnets([text], name)) };
}
