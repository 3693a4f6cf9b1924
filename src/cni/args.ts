// SPDX-License-Identifier: Apache-2.0
//
// The environment of a CNI call (CNI spec, section 2, "Parameters"), parsed once. Pure. Written without regular
// expressions, whose first use costs a start more than these loops do.
import { type Attachment, IDENTIFIER_MAX } from "../net/names.ts";
import { CNI_CODES, CniError } from "./errors.ts";

export type Environment = Readonly<Record<string, string | undefined>>;

/** Who the container belongs to, from CNI_ARGS. */
export interface K8sArgs {
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
}

/** Parsed parameters of ADD and DEL. */
export interface CmdArgs {
  readonly containerId: string;
  readonly ifname: string;
  /** Path of the network namespace; empty only for DEL. */
  readonly netns: string;
  /** The caller knows that CNI_NETNS may be the plugin's own namespace (libcni's CNI_NETNS_OVERRIDE). */
  readonly netnsOverride: boolean;
  /** Absent outside Kubernetes. */
  readonly pod: K8sArgs | undefined;
}

const NAME_MAX = 15;

/**
 * @param needsNetns ADD needs CNI_NETNS, DEL does not: after a reboot there is none.
 * @throws CniError 4 that names every variable that is missing or malformed, with its value.
 */
export function parseCmdArgs(env: Environment, needsNetns: boolean): CmdArgs {
  const containerId = env["CNI_CONTAINERID"] ?? "";
  const ifname = env["CNI_IFNAME"] ?? "";
  const netns = env["CNI_NETNS"] ?? "";
  const problems: string[] = [];
  if (containerId === "") problems.push("CNI_CONTAINERID is missing");
  else if (!isIdentifier(containerId) || containerId.length > IDENTIFIER_MAX) {
    problems.push(
      `CNI_CONTAINERID=${quote(containerId)} is not letters, digits, "_", "." and "-", up to ${IDENTIFIER_MAX}`,
    );
  }
  if (ifname === "") problems.push("CNI_IFNAME is missing");
  else {
    const wrong = ifnameProblem(ifname);
    if (wrong !== undefined) problems.push(`CNI_IFNAME=${quote(ifname)} ${wrong}`);
  }
  if (netns === "") {
    if (needsNetns) problems.push("CNI_NETNS is missing");
  } else if (netns[0] !== "/" || netns.length > 4095 || netns.includes("\0")) {
    problems.push(`CNI_NETNS=${quote(netns)} is not an absolute path`);
  }
  const args = parsePairs(env["CNI_ARGS"] ?? "", problems);
  if (problems.length > 0) {
    throw new CniError(CNI_CODES.invalidEnvironment, "invalid environment", problems.join("; "));
  }
  const name = args.get("K8S_POD_NAME");
  const override = (env["CNI_NETNS_OVERRIDE"] ?? "").toUpperCase();
  return {
    containerId,
    ifname,
    netns,
    netnsOverride: override === "1" || override === "TRUE",
    pod:
      name === undefined
        ? undefined
        : { name, namespace: args.get("K8S_POD_NAMESPACE") ?? "", uid: args.get("K8S_POD_UID") ?? "" },
  };
}

/** The key of the call in a network. */
export function attachmentOf(network: string, args: CmdArgs): Attachment {
  return { network, containerId: args.containerId, ifname: args.ifname };
}

/** CNI_ARGS: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0". Unknown keys are ignored, as runtimes ask. */
function parsePairs(text: string, problems: string[]): Map<string, string> {
  const pairs = new Map<string, string>();
  if (text === "") return pairs;
  for (const pair of text.split(";")) {
    const equals = pair.indexOf("=");
    if (equals <= 0) {
      problems.push(`CNI_ARGS has ${quote(pair)}, which is not KEY=VALUE`);
      continue;
    }
    pairs.set(pair.slice(0, equals), pair.slice(equals + 1));
  }
  return pairs;
}

/** `[a-zA-Z0-9][a-zA-Z0-9_.-]*`, the form of network names and container IDs (CNI spec, sections 1 and 2). */
export function isIdentifier(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    const alphanumeric = (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122);
    if (!alphanumeric && (i === 0 || (c !== 95 && c !== 46 && c !== 45))) return false;
  }
  return text.length > 0;
}

/**
 * What is wrong with an interface name, or undefined (CNI spec, section 2; dev_valid_name in net/core/dev.c). "%" is a
 * pattern to the kernel: it would make eth0 where "eth%d" was asked for.
 */
function ifnameProblem(name: string): string | undefined {
  if (name.length > NAME_MAX) return `is longer than ${NAME_MAX} characters`;
  if (name === "." || name === "..") return "is not a name";
  for (const char of name) {
    if (char === "/" || char === ":" || char === "%" || char <= " " || char > "~")
      return 'has "/", ":", "%", white space or a special character';
  }
  return undefined;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 300 ? `${text.slice(0, 300)}…` : text);
}

/**
 * TRACEPARENT of the runtime (W3C Trace Context, "traceparent": version, trace id, parent id and flags in lower-case
 * hex), or undefined when there is none or it is something else.
 */
export function parseTraceparent(value: string | undefined): string | undefined {
  if (value === undefined || value.length !== 55) return undefined;
  for (let i = 0; i < 55; i++) {
    const dash = i === 2 || i === 35 || i === 52;
    const c = value.charCodeAt(i);
    const hex = (c >= 48 && c <= 57) || (c >= 97 && c <= 102);
    if (dash ? c !== 45 : !hex) return undefined;
  }
  // Version ff, and identifiers of zeros, are invalid (sections 3.2.1 to 3.2.2.4).
  const invalid = value.startsWith("ff") || isZeros(value.slice(3, 35)) || isZeros(value.slice(36, 52));
  return invalid ? undefined : value;
}

function isZeros(text: string): boolean {
  for (const char of text) if (char !== "0") return false;
  return true;
}
