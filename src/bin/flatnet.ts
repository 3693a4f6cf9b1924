// SPDX-License-Identifier: Apache-2.0
//
// The CNI plugin's entry point, run by QuickJS: reads the environment and stdin, prints what came of it, exits.
import { parseTraceparent } from "../cni/args.ts";
import { CONF_MAX_BYTES, type Mode } from "../cni/conf.ts";
import { CNI_CODES, CniError } from "../cni/errors.ts";
import { runPlugin } from "../cni/run.ts";
import { sha256 } from "../net/sha256.ts";
import { sys } from "../sys/quickjs.ts";

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

function readStdin(): string {
  const chunk = new Uint8Array(64 * 1024);
  let all = new Uint8Array(0);
  for (;;) {
    const length = sys.read(STDIN, chunk);
    if (length === 0) return decode(all);
    if (all.length + length > CONF_MAX_BYTES) {
      throw new CniError(
        CNI_CODES.decodingFailure,
        "the network configuration on stdin is too large",
        `over ${CONF_MAX_BYTES} bytes`,
      );
    }
    const longer = new Uint8Array(all.length + length);
    longer.set(all);
    longer.set(chunk.subarray(0, length), all.length);
    all = longer;
  }
}

/** JSON is UTF-8 (RFC 8259, section 8.1); anything else would be read as something that nobody wrote. */
function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new CniError(CNI_CODES.decodingFailure, "the network configuration on stdin is not UTF-8", "", cause);
  }
}

function print(fd: number, text: string): void {
  for (let rest = new TextEncoder().encode(text); rest.length > 0; ) rest = rest.subarray(sys.write(fd, rest));
}

/**
 * One executable with two names. A runtime starts it by its path, which may be a symbolic link and stands in argv[0]; the
 * kernel remembers the file, should argv[0] be something else.
 */
function modeOf(paths: readonly string[]): Mode {
  for (const path of paths) {
    const name = path.slice(path.lastIndexOf("/") + 1);
    if (name === "flatnet" || name === "flatnet-ipam") return name;
  }
  return "flatnet";
}

host.start = () => {
  const traceparent = parseTraceparent(host.env["TRACEPARENT"]);
  const outcome = runPlugin(
    {
      sys,
      env: host.env,
      sha256,
      wallClock: () => Date.now(),
      pid: host.pid,
      ...(traceparent !== undefined && { traceparent }),
    },
    modeOf([host.argv[0] ?? "", host.execPath]),
    readStdin,
  );
  let status = outcome.status;
  globalThis.faultPoint?.("plugin.verb-done");
  try {
    print(STDERR, outcome.stderr);
    print(STDOUT, outcome.stdout);
    globalThis.faultPoint?.("plugin.result-printed");
  } catch {
    // Nobody is listening on one of them. The exit status is all that is left to tell.
    status = 1;
  }
  host.exit(status);
};
