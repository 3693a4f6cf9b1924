// SPDX-License-Identifier: Apache-2.0
//
// An IPAM plugin of the suite's own, to see from the delegate's side what the plugin does (CNI spec, section 4). It writes
// down every call and answers as it is told.

import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ipamOf, type Request } from "./conf.ts";
import type { RuleContext } from "./context.ts";
import { RuleStop } from "./rule.ts";

const NAME = "conformance-ipam";

/** What it prints on stderr, to be found on the caller's. */
export const DELEGATE_STDERR = "conformance-ipam was here";

/** What it says when it is told to fail. */
export const DELEGATE_ERROR = "conformance-ipam has been told to fail";

/** A call as the delegate saw it. */
export interface DelegateCall {
  readonly env: Readonly<Record<string, string>>;
  readonly stdin: string;
}

export class Delegate {
  readonly #directory: string;
  /** CNI_PATH with the delegate in it. */
  readonly cniPath: string;
  /** Keys on top of the request that make the plugin use it. */
  readonly conf: Request;

  /** @param answer what ADD prints. */
  constructor(context: RuleContext, answer: object) {
    this.#directory = join(context.sandbox.directory, `delegate-${randomBytes(4).toString("hex")}`);
    mkdirSync(join(this.#directory, "calls"), { recursive: true });
    writeFileSync(join(this.#directory, "answer"), JSON.stringify(answer));
    writeFileSync(join(this.#directory, NAME), script(this.#directory));
    chmodSync(join(this.#directory, NAME), 0o755);
    // First an empty directory, then ours: the whole path is to be searched.
    this.cniPath = `${join(this.#directory, "calls")}:${this.#directory}:${context.settings.cniPath}`;
    this.conf = { ipam: { ...ipamOf(context.settings.conf), type: NAME, "x-conformance": true } };
  }

  /** From now on it fails a verb. */
  fail(verb: string): void {
    const error = { cniVersion: "1.0.0", code: 117, msg: DELEGATE_ERROR };
    writeFileSync(join(this.#directory, `fail-${verb}`), JSON.stringify(error));
  }

  /** It fails nothing any more. */
  recover(): void {
    for (const name of readdirSync(this.#directory)) if (name.startsWith("fail-")) rmSync(join(this.#directory, name));
  }

  /** Its calls of a verb until now, in order. */
  calls(verb: string): DelegateCall[] {
    const calls = join(this.#directory, "calls");
    return readdirSync(calls)
      .filter((name) => !name.endsWith(".part"))
      .sort()
      .map((name) => ({
        env: Object.fromEntries(
          readFileSync(join(calls, name, "env"), "utf8")
            .split("\0")
            .map(pair),
        ),
        stdin: readFileSync(join(calls, name, "stdin"), "utf8"),
      }))
      .filter(({ env }) => env["CNI_COMMAND"] === verb);
  }

  remove(): void {
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

/** A delegate that gives what the configuration's own one gave just now: addresses that fit the network. */
export async function createDelegate(context: RuleContext): Promise<Delegate> {
  const added = await context.addNew();
  const del = await context.del(added);
  if (del.status !== 0) throw new RuleStop("DEL, on which this rule builds, fails");
  const { interfaces: _interfaces, ips, ...rest } = added.result.document;
  const without = (one: Record<string, unknown>) => ({ ...one, interface: undefined });
  return new Delegate(context, Array.isArray(ips) ? { ...rest, ips: ips.map(without) } : rest);
}

function pair(text: string): [string, string] {
  const [key = "", ...value] = text.split("=");
  return [key, value.join("=")];
}

/** Written in full before it gets its name, so that a reader never sees half a call. */
function script(directory: string): string {
  return `#!/bin/sh
PATH=$PATH:/usr/bin:/bin
call=${directory}/calls/$(date +%s%N)-$$
mkdir "$call.part"
cat /proc/$$/environ >"$call.part/env"
cat >"$call.part/stdin"
mv "$call.part" "$call"
echo "${DELEGATE_STDERR}" >&2
if [ -e "${directory}/fail-$CNI_COMMAND" ]; then
  cat "${directory}/fail-$CNI_COMMAND"
  exit 1
fi
case $CNI_COMMAND in
ADD) cat ${directory}/answer ;;
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}' ;;
esac
`;
}
