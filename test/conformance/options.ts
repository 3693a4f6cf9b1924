// SPDX-License-Identifier: Apache-2.0
//
// The command line of the suite.

import { parseArgs } from "node:util";
import { DIRECTORY_MARK } from "./conf.ts";
import { ConformanceError } from "./errors.ts";
import type { Kind } from "./rule.ts";
import { isSpecVersion, SPEC_VERSIONS, type SpecVersion } from "./spec.ts";

export interface Options {
  readonly plugin: string;
  readonly conf: string;
  /** Undefined: the newest that both the plugin and the suite know. */
  readonly specs: readonly SpecVersion[] | undefined;
  readonly kind: Kind;
  readonly ipamDirs: readonly string[];
  readonly netns: string | undefined;
  readonly watch: readonly string[];
  readonly dataDirs: readonly string[];
  readonly poolSize: number | undefined;
  readonly timeoutMs: number;
  /** Beginnings of rule IDs; all rules when empty. */
  readonly rules: readonly string[];
  readonly junit: string | undefined;
  readonly json: string | undefined;
  readonly markdown: string | undefined;
}

export type Command =
  | { readonly kind: "run"; readonly options: Options }
  | { readonly kind: "help" }
  | { readonly kind: "list" };

export const USAGE = `Tries a CNI plugin against the CNI spec, in network namespaces of its own, as root.

  npm run conformance -- --plugin PATH --conf FILE [options]

  --plugin PATH      the program
  --conf FILE        a plugin's configuration, or a list with one plugin; ${DIRECTORY_MARK} in it is a directory of the run
  --spec V|all       version of the spec: ${SPEC_VERSIONS.join(", ")}; may be repeated
                     (the newest that the plugin lists)
  --kind KIND        interface or ipam: an IPAM plugin makes no interface (interface)
  --ipam-dir DIR     where the plugin's delegates are, for CNI_PATH; may be repeated (the plugin's own directory)
  --netns NAME|PATH  run the plugin in this namespace, as its host, instead of a fresh one. Everything the plugin has
                     given out there may be deleted: never the namespace of a node in use
  --pool-size N      how many addresses the network has, so that it can be filled; not needed for host-local
  --watch DIR        a directory in which no file may be left, besides ${DIRECTORY_MARK}; may be repeated
  --data-dir DIR     a directory or file within those that is the plugin's own business; may be repeated
  --timeout SECONDS  how long a call may take (20)
  --rule ID          only rules whose ID begins so; may be repeated
  --junit FILE, --json FILE, --markdown FILE
                     write the report there too; in JUnit a failed SHOULD counts as skipped
  --list             list the rules, and try nothing

Exit code: 0 unless a MUST failed, 1 if one did, 2 if the suite could not do its work.
`;

/** @throws ConformanceError USAGE naming the option. */
export function parseOptions(argv: readonly string[]): Command {
  const { values } = parse(argv);
  if (values.help === true) return { kind: "help" };
  if (values.list === true) return { kind: "list" };
  const { plugin, conf, kind = "interface" } = values;
  if (plugin === undefined) throw usage("--plugin is missing");
  if (conf === undefined) throw usage("--conf is missing");
  if (kind !== "interface" && kind !== "ipam") throw usage(`--kind ${kind}: must be interface or ipam`);
  const poolSize = values["pool-size"] === undefined ? undefined : wholeNumber("--pool-size", values["pool-size"]);
  return {
    kind: "run",
    options: {
      plugin,
      conf,
      specs: values.spec === undefined ? undefined : parseSpecs(values.spec),
      kind,
      ipamDirs: values["ipam-dir"] ?? [],
      netns: values.netns,
      watch: values.watch ?? [],
      dataDirs: values["data-dir"] ?? [],
      poolSize,
      timeoutMs: wholeNumber("--timeout", values.timeout ?? "20") * 1000,
      rules: values.rule ?? [],
      junit: values.junit,
      json: values.json,
      markdown: values.markdown,
    },
  };
}

function parse(argv: readonly string[]) {
  const one = { type: "string" } as const;
  const many = { type: "string", multiple: true } as const;
  const flag = { type: "boolean" } as const;
  try {
    return parseArgs({
      args: [...argv],
      options: {
        ...{ plugin: one, conf: one, spec: many, kind: one, "ipam-dir": many, netns: one },
        ...{ watch: many, "data-dir": many, "pool-size": one, timeout: one, rule: many },
        ...{ junit: one, json: one, markdown: one, list: flag, help: { ...flag, short: "h" } },
      },
    });
  } catch (cause) {
    throw new ConformanceError("USAGE", (cause as Error).message, { cause });
  }
}

function parseSpecs(words: readonly string[]): SpecVersion[] {
  if (words.includes("all")) return [...SPEC_VERSIONS];
  return words.map((word) => {
    if (!isSpecVersion(word)) throw usage(`--spec ${word}: must be all or one of ${SPEC_VERSIONS.join(", ")}`);
    return word;
  });
}

function wholeNumber(option: string, word: string): number {
  const value = Number(word);
  if (!Number.isInteger(value) || value < 1) throw usage(`${option} ${word}: must be a whole number above 0`);
  return value;
}

function usage(problem: string): ConformanceError {
  return new ConformanceError("USAGE", problem);
}
