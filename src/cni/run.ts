// SPDX-License-Identifier: Apache-2.0
//
// The plugin's front door: which verb, with what, and at most one JSON document as the answer. Logs never go to stdout.
import { add } from "./add.ts";
import { parseCmdArgs } from "./args.ts";
import { parsePluginConf, versionIn } from "./conf.ts";
import { del } from "./del.ts";
import { CNI_CODES, CniError, errorDocument, toCniError } from "./errors.ts";
import { SUPPORTED_VERSIONS, versionDocument } from "./version.ts";
import type { Outcome, World } from "./world.ts";

const NEWEST = SUPPORTED_VERSIONS[SUPPORTED_VERSIONS.length - 1] as string;

const ABOUT = `flatnet: CNI plugin of a flat, routed, non-NAT pod network. CNI versions ${SUPPORTED_VERSIONS.join(", ")}.
It is run by a container runtime, with CNI_COMMAND in its environment and a network configuration on stdin.
`;

/** Runs one verb. Never throws. */
export function runPlugin(world: World, readStdin: () => string): Outcome {
  const command = world.env["CNI_COMMAND"];
  if (command === undefined || command === "") return { stdout: "", stderr: ABOUT, status: 0 };
  let stdin = "";
  try {
    stdin = readStdin();
    return dispatch(world, command, stdin);
  } catch (thrown) {
    const error = toCniError(thrown);
    // The stack of a bug is for the log; the runtime gets one document.
    const stderr = error.code === CNI_CODES.internal && error.cause instanceof Error ? `${error.cause.stack}\n` : "";
    return { stdout: `${errorDocument(error, versionIn(stdin, NEWEST))}\n`, stderr, status: 1 };
  }
}

function dispatch(world: World, command: string, stdin: string): Outcome {
  switch (command) {
    case "VERSION":
      return { stdout: `${versionDocument(versionIn(stdin, NEWEST))}\n`, stderr: "", status: 0 };
    case "ADD":
      return add(world, parseCmdArgs(world.env, true), parsePluginConf(stdin));
    case "DEL":
      return del(world, parseCmdArgs(world.env, false), parsePluginConf(stdin));
    default:
      throw new CniError(
        CNI_CODES.invalidEnvironment,
        "invalid environment",
        `CNI_COMMAND=${JSON.stringify(command.slice(0, 100))} is not ADD, DEL or VERSION`,
      );
  }
}
