// SPDX-License-Identifier: Apache-2.0
//
// The network configuration list that tells runtimes to call flatnet (CNI spec, section 1). Pure.

/** Name of the network: a part of every attachment's key, so it never changes. */
export const NETWORK_NAME = "flatnet";

/**
 * What a libcni that knows no `cniVersions` takes (before 1.2, as in containerd 1.6): the lowest that there is a reason for.
 * Runtimes that only know 0.4.0 are still run, and one that knows 1.0.0 loses nothing by it.
 */
const OLDEST = "0.4.0";

/** What a newer libcni takes the highest of that it knows; STATUS and GC need 1.1.0. */
const VERSIONS = [OLDEST, "1.0.0", "1.1.0"];

/**
 * What a runtime hands in of itself (CONVENTIONS.md). Not `dns`: kubelet writes a pod's resolv.conf, and nothing reads what
 * the plugin would repeat of it.
 */
const CAPABILITIES = { portMappings: true, bandwidth: true, ips: true, mac: true, aliases: true };

/**
 * How long an ADD waits for a daemon that is being replaced, and may take as a whole, in milliseconds. An image is pulled while
 * there is no daemon; kubelet gives a runtime two minutes (--runtime-request-timeout).
 */
const CONNECT_WAIT_MS = 25_000;
const TIMEOUT_MS = 30_000;

/** A plugin's entry in a list. */
export interface ChainedPlugin {
  readonly type: string;
  readonly [key: string]: unknown;
}

export interface ConflistInput {
  /** Path of the daemon's socket, and of its journal. */
  readonly socket: string;
  readonly journalDir: string;
  /** Plugins behind flatnet, in order. */
  readonly chained: readonly ChainedPlugin[];
}

/** The list as text. */
export function renderConflist({ socket, journalDir, chained }: ConflistInput): string {
  const own = {
    type: "flatnet",
    capabilities: CAPABILITIES,
    socket,
    journalDir,
    connectWaitMs: CONNECT_WAIT_MS,
    timeoutMs: TIMEOUT_MS,
  };
  const list = {
    cniVersion: OLDEST,
    cniVersions: VERSIONS,
    name: NETWORK_NAME,
    // A plugin that somebody else drops in beside the list could hold up every DEL (CNI spec, section 1).
    loadOnlyInlinedPlugins: true,
    plugins: [own, ...chained],
  };
  return `${JSON.stringify(list, undefined, 2)}\n`;
}

/** Whether runtimes read a file of this name as a network's configuration (libcni/conf.go, ConfFiles). */
export function isConfiguration(name: string): boolean {
  return /\.(conf|conflist|json)$/.test(name);
}

/** Those of a directory's files that a runtime takes before `own`: it sorts them by name, byte by byte, and takes the first. */
export function before(own: string, names: readonly string[]): string[] {
  const key = Buffer.from(own);
  return names.filter((name) => isConfiguration(name) && Buffer.compare(Buffer.from(name), key) < 0).sort();
}

/** Whether a file's content is a list of ours, whoever wrote it. */
export function isOurs(text: string): boolean {
  try {
    const list = JSON.parse(text) as { plugins?: { type?: unknown }[] } | null;
    return list?.plugins?.[0]?.type === "flatnet";
  } catch {
    // Not JSON: nothing that was ever ours.
    return false;
  }
}
