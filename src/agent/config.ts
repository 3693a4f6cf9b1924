// SPDX-License-Identifier: Apache-2.0
//
// The daemon's configuration: a YAML file, every key of which is also a flag, and flags win. Read once at start, checked
// as a whole, and handed on in parts; no other file of the daemon knows where a value came from.
import { isIP } from "node:net";
import { parseArgs } from "node:util";
import * as v from "valibot";
import { parse } from "yaml";
import { BgpSchema, type BgpSettings } from "../bgp/settings.ts";
import type { ChainedPlugin } from "../footprint/conflist.ts";
import { IpamError } from "../ipam/errors.ts";
import { type AddressRules, layOut } from "../ipam/layout.ts";
import { formatPrefix, overlaps, type Prefix, parsePrefix } from "../net/prefix.ts";
import { type AddressRange, parseRange } from "../net/range.ts";

import type { EgressConf } from "./egress-keeper.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

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

/** A configuration that can't be used. The message names every flag or key that is wrong, with its value. */
export class ConfigError extends Error {
  override readonly name = "ConfigError";
  readonly code: "CONFIG_UNREADABLE" | "CONFIG_SYNTAX" | "CONFIG_INVALID" | "CONFIG_FLAGS";
  constructor(code: ConfigError["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}

export const USAGE = `usage: flatnetd --node-name NAME --pod-cidr CIDR [--pod-cidr CIDR] [options]
       flatnetd --node-name NAME --kubernetes true [options]

  --config FILE          YAML with these flags as keys: nodeName, podCIDRs, stateDir, …; flags win
  --node-name NAME       this node's name in the peers file, or in Kubernetes
  --pod-cidr CIDR        a subnet of this node; again for more, of either family
  --draining-cidr CIDR   one of them that gives out nothing new; who has an address in it keeps it
  --exclude RANGE        addresses that are never given out: 10.244.1.0/28, or 10.244.1.200-10.244.1.210
  --state-dir DIR        database and journal (default /var/lib/flatnet)
  --socket PATH          gRPC socket of the plugin (default /run/flatnet/flatnetd.sock)
  --peers FILE           YAML with the nodes of the cluster; watched
  --kubernetes BOOLEAN   the nodes and this node's subnets are those of Kubernetes (default false)
  --kubeconfig FILE      how its API server is reached (default: as a pod does, by its service account)
  --api-server URL       the API server, in the place of the one said there
  --policy BOOLEAN       enforce Kubernetes' network policies (default: with --kubernetes)
  --policy-on-unknown WHAT  deny or allow: what a pod may whose labels nobody knows yet (default deny)
  --log-level LEVEL      ${LOG_LEVELS.join(", ")} (default info)
  --mtu BYTES            MTU of pods (default 0: the smallest of the uplinks)
  --anti-spoof BOOLEAN   drop what a pod sends from a foreign address (default true)
  --repair BOOLEAN       put back what is taken away of living pods' links (default true)
  --cool-down-seconds N  how long an address rests before it is used again (default 120)
  --retire-after-seconds N  how long an attachment whose namespace is gone waits for its DEL (default 60; 0: for ever)
  --history-days N       how long it stays known who held an address (default 7; 0: not at all)
  --egress-masquerade BOOLEAN  what pods send out of the cluster leaves with the node's address (default false)
  --egress-except CIDR   destinations outside the cluster that see the pods' own addresses; again for more
  --probe-seconds N      how often the other nodes are asked over UDP whether packets arrive (default 0: not at all)
  --metrics-address HOST:PORT  where Prometheus finds /metrics (default none)
  --health-address HOST:PORT  where /livez, /readyz and /healthz are (default none)
  --sysctl-dir DIR       where the node's /proc/sys/net is writable (default /proc/sys/net)
  --cni-bin-dir DIR      install the plugin there, and keep it (default none; runtimes look in /opt/cni/bin)
  --cni-conf-dir DIR     write the conflist there once pods can be served, and keep it (default none;
                         runtimes look in /etc/cni/net.d)
  --help
`;

const path = v.pipe(v.string(), v.startsWith("/", "is not an absolute path"));

const PoolSchema = v.strictObject({
  ranges: v.pipe(v.array(v.string()), v.minLength(1, "has no range")),
  namespaces: v.optional(v.array(v.pipe(v.string(), v.minLength(1, "is not a namespace"))), []),
});

/** Credentials have other places, and the path is the API's. */
const ApiServer = v.pipe(
  v.string(),
  v.regex(/^https?:\/\/(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?\/?$/i, "is not a URL like https://HOST:PORT"),
);

/** A taint's key as the API has it: a name, and before it a domain if there is one. */
const TaintKey = v.pipe(
  v.string(),
  v.regex(
    /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/,
    "is no key of a taint",
  ),
);

const MAIN_TABLE = 254;
/** Table 0 is no table, and the kernel's own (local, 255) takes no route of ours. */
const RoutingTable = v.pipe(
  v.number(),
  v.integer(),
  v.minValue(1),
  v.maxValue(0xffff_ffff),
  v.notValue(255, "is the kernel's own table"),
);

const Schema = v.strictObject({
  nodeName: v.pipe(v.string(), v.regex(/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/, "is not a node name")),
  podCIDRs: v.pipe(v.array(v.string()), v.minLength(1, "has no subnet")),
  drainingCIDRs: v.optional(v.array(v.string()), []),
  excluded: v.optional(v.array(v.string()), []),
  pools: v.optional(
    v.record(
      v.pipe(v.string(), v.regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/, "is not a pool's name"), v.maxLength(63)),
      PoolSchema,
    ),
    {},
  ),
  stateDir: v.optional(path, "/var/lib/flatnet"),
  socket: v.optional(
    v.pipe(path, v.maxBytes(107, "is longer than a unix socket's path can be")),
    "/run/flatnet/flatnetd.sock",
  ),
  peers: v.optional(path),
  kubernetes: v.optional(
    v.strictObject({
      enabled: v.optional(v.boolean(), false),
      kubeconfig: v.optional(path),
      apiServer: v.optional(ApiServer),
      serviceAccountDir: v.optional(path),
    }),
    {},
  ),
  routes: v.optional(
    v.strictObject({
      mode: v.optional(v.picklist(["static", "bgp"], "is neither static nor bgp"), "static"),
      bgp: v.optional(BgpSchema, {}),
      table: v.optional(RoutingTable, MAIN_TABLE),
    }),
    {},
  ),
  logLevel: v.optional(v.picklist(LOG_LEVELS, `is none of ${LOG_LEVELS.join(", ")}`), "info"),
  mtu: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535)), 0),
  antiSpoof: v.optional(v.boolean(), true),
  repair: v.optional(v.boolean(), true),
  coolDownSeconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(86_400)), 120),
  retireAfterSeconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(86_400)), 60),
  egress: v.optional(
    v.strictObject({
      masquerade: v.optional(v.boolean(), false),
      exceptCIDRs: v.optional(v.array(v.string()), []),
    }),
    {},
  ),
  probeSeconds: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(3_600)), 0),
  metricsAddress: v.optional(v.pipe(v.string(), v.check(isHostPort, "is not HOST:PORT"))),
  healthAddress: v.optional(v.pipe(v.string(), v.check(isHostPort, "is not HOST:PORT"))),
  sysctlDir: v.optional(path, "/proc/sys/net"),
  node: v.optional(v.strictObject({ startupTaint: v.optional(TaintKey) }), {}),
  cni: v.optional(
    v.strictObject({
      binDir: v.optional(path),
      confDir: v.optional(path),
      confName: v.optional(
        v.pipe(
          v.string(),
          v.regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,240}\.conflist$/, "is not a file name that ends in .conflist"),
        ),
        "10-flatnet.conflist",
      ),
      chained: v.optional(
        v.array(v.looseObject({ type: v.pipe(v.string(), v.regex(/^[A-Za-z0-9._-]+$/, "is not a plugin's name")) })),
        [],
      ),
    }),
    {},
  ),
  historyDays: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(3_650)), 7),
  policy: v.optional(
    v.strictObject({
      enabled: v.optional(v.boolean()),
      onUnknown: v.optional(v.picklist(["deny", "allow"], "is neither deny nor allow"), "deny"),
      allowFromNode: v.optional(v.boolean(), true),
      clusterPolicies: v.optional(v.boolean(), false),
    }),
    {},
  ),
});

/** Kubernetes says the subnets where nobody else does. */
const SchemaInKubernetes = v.strictObject({
  ...Schema.entries,
  podCIDRs: v.optional(Schema.entries.podCIDRs),
});

/** The flag of each key, and how its text becomes the key's value. A flag that may come again makes a list. */
const FLAGS: Readonly<Record<string, { key: string; again?: true; read: (text: string) => unknown }>> = {
  "node-name": { key: "nodeName", read: (text) => text },
  "pod-cidr": { key: "podCIDRs", again: true, read: (text) => text },
  "draining-cidr": { key: "drainingCIDRs", again: true, read: (text) => text },
  exclude: { key: "excluded", again: true, read: (text) => text },
  "state-dir": { key: "stateDir", read: (text) => text },
  socket: { key: "socket", read: (text) => text },
  peers: { key: "peers", read: (text) => text },
  kubernetes: { key: "kubernetes.enabled", read: toBoolean },
  kubeconfig: { key: "kubernetes.kubeconfig", read: (text) => text },
  "api-server": { key: "kubernetes.apiServer", read: (text) => text },
  "log-level": { key: "logLevel", read: (text) => text },
  mtu: { key: "mtu", read: toNumber },
  "anti-spoof": { key: "antiSpoof", read: toBoolean },
  repair: { key: "repair", read: toBoolean },
  "cool-down-seconds": { key: "coolDownSeconds", read: toNumber },
  "retire-after-seconds": { key: "retireAfterSeconds", read: toNumber },
  "egress-masquerade": { key: "egress.masquerade", read: toBoolean },
  "egress-except": { key: "egress.exceptCIDRs", again: true, read: (text) => text },
  "probe-seconds": { key: "probeSeconds", read: toNumber },
  "metrics-address": { key: "metricsAddress", read: (text) => text },
  "sysctl-dir": { key: "sysctlDir", read: (text) => text },
  "health-address": { key: "healthAddress", read: (text) => text },
  "cni-bin-dir": { key: "cni.binDir", read: (text) => text },
  "cni-conf-dir": { key: "cni.confDir", read: (text) => text },
  policy: { key: "policy.enabled", read: toBoolean },
  "policy-on-unknown": { key: "policy.onUnknown", read: (text) => text },
  "history-days": { key: "historyDays", read: toNumber },
};

/** "127.0.0.1:9470" or "[::1]:9470": an address, not a name that would have to be looked up. */
function parseHostPort(text = ""): { host: string; port: number } | undefined {
  const [, v6, v4, port] = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = v6 ?? v4 ?? "";
  return isIP(host) === (v6 === undefined ? 4 : 6) && Number(port) <= 65_535 ? { host, port: Number(port) } : undefined;
}

function isHostPort(text: string): boolean {
  return parseHostPort(text) !== undefined;
}

function toBoolean(text: string): unknown {
  return text === "true" ? true : text === "false" ? false : text;
}

function toNumber(text: string): unknown {
  return /^\d+$/.test(text) ? Number(text) : text;
}

/**
 * @param args what follows the program's name
 * @param readFile for --config; throws like fs.readFileSync
 * @returns "help" when help was asked for
 * @throws ConfigError
 */
export function parseConfig(args: readonly string[], readFile: (path: string) => string): Config | "help" {
  const flags = parseFlags(args);
  if (flags["help"] === true) return "help";
  const file = typeof flags["config"] === "string" ? readConfigFile(flags["config"], readFile) : {};
  const given: Record<string, unknown> = { ...file };
  /** Keys as the person who set them knows them: by the flag, unless the file has the value that counts. */
  const names = new Map(
    Object.entries(file).flatMap(([key, value]) => namesIn(key, value).map((name) => [name, name])),
  );
  for (const [flag, { key, read }] of Object.entries(FLAGS)) {
    const text = flags[flag];
    if (text !== undefined) put(given, key, Array.isArray(text) ? text.map(read) : read(String(text)));
    if (text !== undefined || !names.has(key)) names.set(key, `--${flag}`);
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

function parseFlags(args: readonly string[]): Record<string, unknown> {
  const options = Object.fromEntries(
    Object.entries(FLAGS).map(([flag, { again = false }]) => [flag, { type: "string" as const, multiple: again }]),
  );
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        ...options,
        config: { type: "string" },
        help: { type: "boolean", short: "h" },
      },
      strict: true,
      allowPositionals: false,
    });
    return values;
  } catch (cause) {
    throw new ConfigError("CONFIG_FLAGS", firstLine((cause as Error).message), cause);
  }
}

function readConfigFile(file: string, readFile: (path: string) => string): object {
  let text: string;
  try {
    text = readFile(file);
  } catch (cause) {
    throw new ConfigError("CONFIG_UNREADABLE", `--config ${file} can't be read: ${(cause as Error).message}`, cause);
  }
  let document: unknown;
  try {
    document = parse(text);
  } catch (cause) {
    throw new ConfigError(
      "CONFIG_SYNTAX",
      `--config ${file} is not YAML: ${firstLine((cause as Error).message)}`,
      cause,
    );
  }
  if (document === null) return {};
  if (typeof document !== "object" || Array.isArray(document)) {
    throw new ConfigError("CONFIG_SYNTAX", `--config ${file} is not a map of keys`);
  }
  return document;
}

function parseSubnets(texts: readonly string[], name: string): Prefix[] {
  const problems: string[] = [];
  const prefixes: Prefix[] = [];
  for (const text of texts) {
    try {
      const prefix = parsePrefix(text);
      const clash = prefixes.find((other) => overlaps(other, prefix));
      if (clash !== undefined) problems.push(`${name} ${text} overlaps ${formatPrefix(clash)}`);
      prefixes.push(prefix);
    } catch (error) {
      problems.push(`${name}: ${(error as Error).message}`);
    }
  }
  if (problems.length > 0) throw invalid(problems);
  return prefixes;
}

/** Exceptions may overlap whatever they like: they are one set. */
function parseEgress(
  { masquerade, exceptCIDRs }: { masquerade: boolean; exceptCIDRs: readonly string[] },
  nameOf: (key: string) => string,
): EgressConf {
  const name = nameOf("egress.exceptCIDRs");
  return { masquerade, exceptCIDRs: exceptCIDRs.flatMap((text) => parseSubnets([text], name)) };
}

function parseRanges(texts: readonly string[], name: string): AddressRange[] {
  const problems: string[] = [];
  const ranges = texts.flatMap((text) => {
    try {
      return [parseRange(text)];
    } catch (error) {
      problems.push(`${name}: ${(error as Error).message}`);
      return [];
    }
  });
  if (problems.length > 0) throw invalid(problems);
  return ranges;
}

/** Before the daemon touches anything. */
function checkRules(subnets: readonly Prefix[], rules: AddressRules): void {
  try {
    layOut(subnets, rules);
  } catch (error) {
    if (error instanceof IpamError) throw invalid([error.message]);
    throw error;
  }
}

function describe(issue: v.BaseIssue<unknown>, nameOf: (key: string) => string): string {
  const [key = "the configuration", ...rest] = v.getDotPath(issue)?.split(".") ?? [];
  // Valibot says "Invalid type: Expected string but received undefined" of a key that isn't there.
  if (issue.input === undefined) return `${rest.length === 0 ? nameOf(key) : [key, ...rest].join(".")} is missing`;
  if (issue.expected === "never") return `${[key, ...rest].join(".")} is no key of the configuration`;
  // What is wrong with one of a flag's values needs no index: the value is there to see.
  const flag = [nameOf([key, ...rest].slice(0, 2).join(".")), nameOf(key)].find((text) => text.startsWith("--"));
  const name = flag ?? [key, ...rest].join(".");
  return `${name} is ${JSON.stringify(issue.input)}: ${issue.message}`;
}

/** Libraries go on with advice and excerpts. */
function firstLine(text: string): string {
  return (text.split("\n")[0] as string).replace(/[.:]$/, "");
}

function invalid(problems: readonly string[]): ConfigError {
  return new ConfigError("CONFIG_INVALID", problems.join("; "));
}
