// SPDX-License-Identifier: Apache-2.0
//
// The plugin's front door: which verb, with what, and at most one JSON document as the answer. Logs never go to stdout.
import { add } from "./add.ts";
import { attachmentOf, parseCmdArgs } from "./args.ts";
import { check, checkIpam } from "./check.ts";
import {
  type Mode,
  parseDaemonConf,
  parseGcConf,
  parseIpamConf,
  parsePluginConf,
  parseStatusConf,
  versionIn,
} from "./conf.ts";
import { del, giveBack } from "./del.ts";
import { CNI_CODES, CniError, errorDocument, toCniError } from "./errors.ts";
import { collectGarbage } from "./gc.ts";
import { addIpam } from "./ipam-plugin.ts";
import { status } from "./status.ts";
import { assertVerbAllowed, SUPPORTED_VERSIONS, versionDocument } from "./version.ts";
import type { Outcome, World } from "./world.ts";

const NEWEST = SUPPORTED_VERSIONS[SUPPORTED_VERSIONS.length - 1] as string;

const VERBS: readonly string[] = ["ADD", "CHECK", "DEL", "GC", "STATUS", "VERSION"];

const ABOUT = {
  flatnet: "CNI plugin of a flat, routed, non-NAT pod network",
  "flatnet-ipam": "CNI IPAM plugin: addresses of the flatnet daemon for other plugins' links",
};

/** Runs one verb. Never throws. */
export function runPlugin(world: World, mode: Mode, readStdin: () => string): Outcome {
  const command = world.env["CNI_COMMAND"];
  if (command === undefined || command === "") return { stdout: "", stderr: about(mode), status: 0 };
  let stdin = "";
  let outcome: Outcome;
  try {
    stdin = readStdin();
    outcome = dispatch(world, mode, command, stdin);
  } catch (thrown) {
    const error = toCniError(thrown);
    // The stack of a bug is for the log; the runtime gets one document.
    const bug = error.code === CNI_CODES.internal && error.cause instanceof Error;
    const stderr = bug
      ? `${(error.cause as Error).stack}\n`
      : `${error.message}${error.details === "" ? "" : `: ${error.details}`}\n`;
    outcome = { stdout: `${errorDocument(error, versionIn(stdin, NEWEST))}\n`, stderr, status: 1 };
  }
  return outcome.stderr === "" ? outcome : { ...outcome, stderr: logLine(world, mode, command, outcome.stderr) };
}

/** What the runtime's log shows of us, with the trace that its call belongs to. */
function logLine({ traceparent }: World, mode: Mode, command: string, text: string): string {
  // A verb that is none may be anything, line ends included; the error has it quoted.
  const verb = VERBS.includes(command) ? ` ${command}` : "";
  return `${mode}${verb}${traceparent === undefined ? "" : ` traceparent=${traceparent}`}: ${text}`;
}

function about(mode: Mode): string {
  return `${mode}: ${ABOUT[mode]}. CNI versions ${SUPPORTED_VERSIONS.join(", ")}.
It is run by a container runtime, with CNI_COMMAND in its environment and a network configuration on stdin.
`;
}

function dispatch(world: World, mode: Mode, command: string, stdin: string): Outcome {
  const main = mode === "flatnet";
  switch (command) {
    case "VERSION":
      return { stdout: `${versionDocument(versionIn(stdin, NEWEST))}\n`, stderr: "", status: 0 };
    case "ADD": {
      const args = parseCmdArgs(world.env, true);
      return main ? add(world, args, parsePluginConf(stdin)) : addIpam(world, args, parseIpamConf(stdin));
    }
    case "DEL": {
      const args = parseCmdArgs(world.env, false);
      const conf = parseDaemonConf(stdin, mode);
      return main ? del(world, args, conf) : giveBack(world, conf, attachmentOf(conf.name, args));
    }
    case "CHECK": {
      const args = parseCmdArgs(world.env, true);
      assertVerbAllowed(command, parseDaemonConf(stdin, mode).cniVersion, "0.4.0");
      return main ? check(world, args, parsePluginConf(stdin)) : checkIpam(world, args, parseIpamConf(stdin));
    }
    case "GC": {
      assertVerbAllowed(command, parseDaemonConf(stdin, mode).cniVersion, "1.1.0");
      return collectGarbage(world, parseGcConf(stdin, mode));
    }
    case "STATUS": {
      const conf = parseStatusConf(stdin, mode);
      assertVerbAllowed(command, conf.cniVersion, "1.1.0");
      return status(world, conf);
    }
    default: {
      const details = `CNI_COMMAND=${JSON.stringify(command.slice(0, 100))} is not ${VERBS.join(", ")}`;
      throw new CniError(CNI_CODES.invalidEnvironment, "invalid environment", details);
    }
  }
}
