// SPDX-License-Identifier: Apache-2.0
//
// What each key of the configuration may be, and its default.
import { isIP } from "node:net";
import * as v from "valibot";
import { BgpSchema } from "../bgp/settings.ts";

export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

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

/** Of a node whose subnets the configuration says. */
export const Schema = v.strictObject({
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
export const SchemaInKubernetes = v.strictObject({
  ...Schema.entries,
  podCIDRs: v.optional(Schema.entries.podCIDRs),
});

/** "127.0.0.1:9470" or "[::1]:9470": an address, not a name that would have to be looked up. */
export function parseHostPort(text = ""): { host: string; port: number } | undefined {
  const [, v6, v4, port] = /^(?:\[([0-9a-f:.]+)\]|([0-9.]+)):(\d{1,5})$/i.exec(text) ?? [];
  const host = v6 ?? v4 ?? "";
  return isIP(host) === (v6 === undefined ? 4 : 6) && Number(port) <= 65_535 ? { host, port: Number(port) } : undefined;
}

function isHostPort(text: string): boolean {
  return parseHostPort(text) !== undefined;
}

/** What an issue is about in words, by the name that the person who set it knows. @param nameOf a key's */
export function describe(issue: v.BaseIssue<unknown>, nameOf: (key: string) => string): string {
  const [key = "the configuration", ...rest] = v.getDotPath(issue)?.split(".") ?? [];
  // Valibot says "Invalid type: Expected string but received undefined" of a key that isn't there.
  if (issue.input === undefined) return `${rest.length === 0 ? nameOf(key) : [key, ...rest].join(".")} is missing`;
  if (issue.expected === "never") return `${[key, ...rest].join(".")} is no key of the configuration`;
  // What is wrong with one of a flag's values needs no index: the value is there to see.
  const flag = [nameOf([key, ...rest].slice(0, 2).join(".")), nameOf(key)].find((text) => text.startsWith("--"));
  const name = flag ?? [key, ...rest].join(".");
  return `${name} is ${JSON.stringify(issue.input)}: ${issue.message}`;
}
