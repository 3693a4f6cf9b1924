// SPDX-License-Identifier: Apache-2.0
//
// The daemon's flags: which key each is, and how its text becomes the key's value.
import { parseArgs } from "node:util";
import { ConfigError, firstLine } from "./config-error.ts";
import { LOG_LEVELS } from "./config-schema.ts";

export const USAGE = `usage: flatnetd --node-name NAME --pod-cidr CIDR [--pod-cidr CIDR] [options]
       flatnetd --node-name NAME --kubernetes [options]

  --config FILE          YAML with these flags as keys: nodeName, podCIDRs, stateDir, …; flags win
  --node-name NAME       this node's name in the peers file, or in Kubernetes
  --pod-cidr CIDR        a subnet of this node; again for more, of either family
  --draining-cidr CIDR   one of them that gives out nothing new; who has an address in it keeps it
  --exclude RANGE        addresses that are never given out: 10.244.1.0/28, or 10.244.1.200-10.244.1.210
  --state-dir DIR        database and journal (default /var/lib/flatnet)
  --socket PATH          gRPC socket of the plugin (default /run/flatnet/flatnetd.sock)
  --peers FILE           YAML with the nodes of the cluster; watched
  --kubernetes [BOOLEAN] the nodes and this node's subnets are those of Kubernetes (default false)
  --kubeconfig FILE      how its API server is reached (default: as a pod does, by its service account)
  --api-server URL       the API server, in the place of the one said there
  --policy [BOOLEAN]     enforce Kubernetes' network policies (default: with --kubernetes)
  --policy-on-unknown WHAT  deny or allow: what a pod may whose labels nobody knows yet (default deny)
  --log-level LEVEL      ${LOG_LEVELS.join(", ")} (default info)
  --mtu BYTES            MTU of pods (default 0: the smallest of the uplinks)
  --anti-spoof [BOOLEAN] drop what a pod sends from a foreign address (default true)
  --repair [BOOLEAN]     put back what is taken away of living pods' links (default true)
  --cool-down-seconds N  how long an address rests before it is used again (default 120)
  --retire-after-seconds N  how long an attachment whose namespace is gone waits for its DEL (default 60; 0: for ever)
  --history-days N       how long it stays known who held an address (default 7; 0: not at all)
  --egress-masquerade [BOOLEAN]  what pods send out of the cluster leaves with the node's address (default false)
  --egress-except CIDR   destinations outside the cluster that see the pods' own addresses; again for more
  --probe-seconds N      how often the other nodes are asked over UDP whether packets arrive (default 0: not at all)
  --metrics-address HOST:PORT  where Prometheus finds /metrics (default none)
  --health-address HOST:PORT  where /livez, /readyz and /healthz are (default none)
  --sysctl-dir DIR       where the node's /proc/sys/net is writable (default /proc/sys/net)
  --cni-bin-dir DIR      install the plugin there, and keep it (default none; runtimes look in /opt/cni/bin)
  --cni-conf-dir DIR     write the conflist there once pods can be served, and keep it (default none;
                         runtimes look in /etc/cni/net.d)
  --help

A BOOLEAN is true or false; a flag that may have one is on without it.
`;

interface Flag {
  /** Of the configuration; one within another has a dot. */
  readonly key: string;
  /** What its text becomes, if it reads like that; text otherwise. */
  readonly as?: "number" | "boolean";
  /** May come again, and makes a list. */
  readonly again?: true;
}

const FLAGS: Readonly<Record<string, Flag>> = {
  "node-name": { key: "nodeName" },
  "pod-cidr": { key: "podCIDRs", again: true },
  "draining-cidr": { key: "drainingCIDRs", again: true },
  exclude: { key: "excluded", again: true },
  "state-dir": { key: "stateDir" },
  socket: { key: "socket" },
  peers: { key: "peers" },
  kubernetes: { key: "kubernetes.enabled", as: "boolean" },
  kubeconfig: { key: "kubernetes.kubeconfig" },
  "api-server": { key: "kubernetes.apiServer" },
  "log-level": { key: "logLevel" },
  mtu: { key: "mtu", as: "number" },
  "anti-spoof": { key: "antiSpoof", as: "boolean" },
  repair: { key: "repair", as: "boolean" },
  "cool-down-seconds": { key: "coolDownSeconds", as: "number" },
  "retire-after-seconds": { key: "retireAfterSeconds", as: "number" },
  "egress-masquerade": { key: "egress.masquerade", as: "boolean" },
  "egress-except": { key: "egress.exceptCIDRs", again: true },
  "probe-seconds": { key: "probeSeconds", as: "number" },
  "metrics-address": { key: "metricsAddress" },
  "sysctl-dir": { key: "sysctlDir" },
  "health-address": { key: "healthAddress" },
  "cni-bin-dir": { key: "cni.binDir" },
  "cni-conf-dir": { key: "cni.confDir" },
  policy: { key: "policy.enabled", as: "boolean" },
  "policy-on-unknown": { key: "policy.onUnknown" },
  "history-days": { key: "historyDays", as: "number" },
};

/** The flag that each key can be given by. */
export const FLAG_OF_KEY: ReadonlyMap<string, string> = new Map(
  Object.entries(FLAGS).map(([flag, { key }]) => [key, `--${flag}`]),
);

export interface Flags {
  readonly help: boolean;
  /** Path of the file. */
  readonly config: string | undefined;
  /** By key. What doesn't read like a value of its kind is the text that it was. */
  readonly values: ReadonlyMap<string, unknown>;
}

/**
 * @param args what follows the program's name
 * @throws ConfigError
 */
export function parseFlags(args: readonly string[]): Flags {
  const options = Object.fromEntries(
    Object.entries(FLAGS).map(([flag, { again = false }]) => [flag, { type: "string" as const, multiple: again }]),
  );
  try {
    const { values: found } = parseArgs({
      args: withValues(args),
      options: { ...options, config: { type: "string" }, help: { type: "boolean", short: "h" } },
      strict: true,
      allowPositionals: false,
    });
    const { help = false, config, ...texts } = found;
    const values = new Map(
      Object.entries(texts as Record<string, string | string[]>).map(([name, text]) => {
        const { key, as } = FLAGS[name] as Flag;
        return [key, Array.isArray(text) ? text.map((one) => readText(one, as)) : readText(text, as)];
      }),
    );
    return { help, config, values };
  } catch (cause) {
    if (cause instanceof ConfigError) throw cause;
    throw new ConfigError("CONFIG_FLAGS", firstLine((cause as Error).message), cause);
  }
}

/** A flag that is on or off is on where it is given bare. Of the others parseArgs would say that they are ambiguous. */
function withValues(args: readonly string[]): string[] {
  return args.map((arg, i) => {
    const name = arg.startsWith("--") ? arg.slice(2) : "";
    const next = args[i + 1];
    if (!(name === "config" || Object.hasOwn(FLAGS, name)) || (next !== undefined && !/^-./.test(next))) return arg;
    if (FLAGS[name]?.as === "boolean") return `${arg}=true`;
    const meant = next === undefined ? "" : `; if ${next} is to be it, write ${arg}=${next}`;
    throw new ConfigError("CONFIG_FLAGS", `${arg} has no value${meant}`);
  });
}

function readText(text: string, as: Flag["as"]): unknown {
  if (as === "boolean" && (text === "true" || text === "false")) return text === "true";
  return as === "number" && /^\d+$/.test(text) ? Number(text) : text;
}
