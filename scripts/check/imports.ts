// SPDX-License-Identifier: Apache-2.0
//
// Who may import whom. The arrows of the house point one way: bin to the programs, those to the features, those to the
// adapters, those to the pure words. Features do not know each other.

import { globSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { ROOT } from "../repo.ts";

const WORDS = ["gen", "net"];
const ADAPTERS = ["netlink", "nft", "kube", "grpc", "podnet", "sys"];
const FEATURES = ["cni", "ipam", "routes", "bgp", "hostport", "egress", "probe", "policy", "footprint"];
const PROGRAMS = ["agent", "ctl", "lab"];

/** Folder of src, and the folders of src it may import besides itself. A folder that is not here may not exist. */
const MAY_IMPORT: Record<string, readonly string[]> = {
  net: [],
  gen: [],
  // The system calls are below the other adapters: the plugin's transports are made of them.
  sys: WORDS,
  netlink: ["sys", ...WORDS],
  // nftables is spoken over netlink.
  nft: ["netlink", "sys", ...WORDS],
  // What a pod's network is, for the plugin that makes it and the daemon that repairs it.
  podnet: ["netlink", "sys", ...WORDS],
  kube: ["sys", ...WORDS],
  grpc: ["sys", ...WORDS],
  ...Object.fromEntries(FEATURES.map((feature) => [feature, [...ADAPTERS, ...WORDS]])),
  ...Object.fromEntries(PROGRAMS.map((program) => [program, [...FEATURES, ...ADAPTERS, ...WORDS]])),
  // flatnetctl is one program with the lab as one of its commands.
  ctl: ["lab", ...FEATURES, ...ADAPTERS, ...WORDS],
  bin: [...PROGRAMS, ...FEATURES, ...ADAPTERS, ...WORDS],
};

/** Packages that only some files may import (tests are free). Packages that are not here are free, but see PURE. */
const PACKAGES: readonly { readonly name: RegExp; readonly only: RegExp; readonly why: string }[] = [
  { name: /^ip-address$/, only: /^src\/net\/prefix\.ts$/, why: "one file reads what people write" },
  { name: /^koffi$/, only: /^src\/sys\/node\.ts$/, why: "what differs by runtime is behind src/sys" },
  { name: /^netlink$/, only: /^src\/netlink\//, why: "the addon is behind src/netlink" },
  { name: /^(classic-)?level$/, only: /^src\/(ipam\/|kube\/cache\.ts$)/, why: "a database is behind its store" },
  { name: /^@kubernetes\//, only: /^src\/kube\/kubeconfig\.ts$/, why: "only a kubeconfig may need it" },
];

/** Folders without a runtime: no node: modules and no packages but those of PACKAGES that name them. */
const PURE = ["net"];

interface Import {
  readonly specifier: string;
  readonly line: number;
  /** Path from the root when it is one of our files. */
  readonly target: string | null;
}

/** Path from the root and text of every file that the rules are for. */
export function readSources(): Map<string, string> {
  const files = globSync("src/**/*.ts", { cwd: ROOT }).sort();
  return new Map(files.map((file) => [file, readFileSync(join(ROOT, file), "utf8")]));
}

/** Every violation in the sources, as one line that begins with file:line. */
export function importProblems(sources: ReadonlyMap<string, string>): string[] {
  const imports = new Map([...sources].map(([file, text]) => [file, importsOf(file, text)]));
  const problems: string[] = [];
  for (const [file, text] of sources) {
    for (const at of imports.get(file) ?? []) {
      problems.push(...judge(file, at).map((why) => `${file}:${at.line} ${why}`));
    }
    problems.push(...environmentReads(file, text));
  }
  return [...problems, ...cycles(imports)];
}

function judge(file: string, { specifier, target }: Import): string[] {
  const folder = folderOf(file);
  const allowed = MAY_IMPORT[folder];
  if (allowed === undefined) return [`is in src/${folder}, which has no line in scripts/check/imports.ts`];
  const test = isTest(file);
  if (target === null) return test ? [] : judgePackage(file, folder, specifier);
  if (!target.startsWith("src/")) return test ? [] : [`imports ${target}, which is outside src`];
  if (!test && isTest(target)) return [`imports the test file ${target}`];
  const to = folderOf(target);
  if (to === folder || allowed.includes(to)) return [];
  return [`imports ${target}, but ${folder} may only import ${allowed.join(", ") || "itself"}`];
}

function judgePackage(file: string, folder: string, specifier: string): string[] {
  const rule = PACKAGES.find(({ name }) => name.test(specifier));
  if (rule !== undefined && !rule.only.test(file)) return [`imports ${specifier}: ${rule.why}`];
  if (rule === undefined && PURE.includes(folder)) return [`imports ${specifier}, but src/${folder} is pure`];
  return [];
}

/** Biome's noProcessEnv does not see argv, nor names imported from node:process. */
function environmentReads(file: string, source: string): string[] {
  if (file.startsWith("src/bin/") || isTest(file)) return [];
  return source.split("\n").flatMap((text, at) => {
    const found = /\b(?:process|host)\.(?:env|argv)\b|from "(?:node:)?process"/.exec(
      text.replace(/\/\/.*|^\s*\/?\*.*/, ""),
    );
    return found === null ? [] : [`${file}:${at + 1} has ${found[0]}: only src/bin reads argv and env`];
  });
}

/** Each ring of files once, told from its first file by name. */
function cycles(imports: ReadonlyMap<string, readonly Import[]>): string[] {
  const problems: string[] = [];
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): void => {
    const start = path.indexOf(file);
    if (start >= 0) problems.push(`${file} imports itself by way of ${[...path.slice(start + 1), file].join(" -> ")}`);
    if (start >= 0 || done.has(file)) return;
    path.push(file);
    for (const { target } of imports.get(file) ?? []) if (target !== null) visit(target);
    path.pop();
    done.add(file);
  };
  for (const file of imports.keys()) visit(file);
  return problems;
}

/** Static imports and re-exports at the start of a line, as Biome formats them, and import() of a literal. */
function importsOf(file: string, text: string): Import[] {
  const pattern = /^(?:import|export)\s(?:[^"'`;]*?\sfrom\s)?"([^"]+)"|\b(?:import|require)\("([^"]+)"\)/gm;
  return [...text.matchAll(pattern)].map((match) => {
    const specifier = (match[1] ?? match[2]) as string;
    return {
      specifier,
      line: text.slice(0, match.index).split("\n").length,
      target: specifier.startsWith(".") ? normalize(join(dirname(file), specifier)) : null,
    };
  });
}

function folderOf(file: string): string {
  return file.split("/")[1] as string;
}

/** Test files, and what stands beside them only for them. */
function isTest(file: string): boolean {
  return /\.test\.ts$|\/testing\/|\/test-[^/]*\.ts$/.test(file);
}
