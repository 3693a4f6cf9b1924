// SPDX-License-Identifier: Apache-2.0
//
// Calls that can't be right. Of each there are two rules: the plugin refuses it and leaves nothing, and it says why in the
// form and with the code of the spec.

import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Request } from "../conf.ts";
import { documentOf, type RuleContext, type Variables, type Verb } from "../context.ts";
import { refuses, tellsError } from "../expect.ts";
import { readLink } from "../kernel.ts";
import type { Call } from "../plugin.ts";
import { type Group, type Kind, type Level, type Rule, verdictOf } from "../rule.ts";
import { addForeignLink, commandIn } from "../sandbox.ts";
import type { SpecVersion } from "../spec.ts";

/** What is wrong with a call. */
interface Wrong {
  readonly env?: Variables;
  readonly conf?: Request;
  readonly stdin?: string | Uint8Array;
}

interface Refusal {
  readonly id: string;
  readonly group: Group;
  /** Of the refusal itself. */
  readonly level: Level;
  readonly section: string;
  /** Completes "ADD … ". */
  readonly what: string;
  readonly verb: Verb | string;
  readonly since?: SpecVersion;
  readonly kinds?: readonly Kind[];
  /** Codes that will do; any when empty. */
  readonly codes: readonly number[];
  /** What the message must name. */
  readonly names?: readonly string[];
  readonly wrong: (context: RuleContext) => Wrong | Promise<Wrong>;
}

const ENV = "section 2, Parameters; section 5, Error: 4";
const CONF = "section 1, Configuration format; section 5, Error: 7";
const DECODE = "section 5, Error: 6";
const SKEL_ID = "section 2, Parameters: CNI_CONTAINERID; convention: skel refuses other characters with 4";

function variable(verb: Verb, name: string, since?: SpecVersion): Refusal {
  return {
    id: `errors.${verb.toLowerCase()}-without-${name.slice(4).toLowerCase()}`,
    group: "errors",
    level: "MUST",
    section: `section 2, ${verb}: ${name} is required; section 5, Error: 4`,
    what: `without ${name}`,
    verb,
    codes: [4],
    names: [name],
    ...(since === undefined ? {} : { since }),
    wrong: () => ({ env: { [name]: undefined } }),
  };
}

function badValue(id: string, level: Level, section: string, name: string, value: string, what: string): Refusal {
  return {
    id: `environment.${id}`,
    group: "environment abuse",
    level,
    section,
    what: `with ${what}`,
    verb: "ADD",
    codes: [4],
    wrong: () => ({ env: { [name]: value } }),
  };
}

function stdin(id: string, level: Level, codes: readonly number[], what: string, text: string | Uint8Array): Refusal {
  return {
    id: `stdin.${id}`,
    group: "stdin abuse",
    level,
    section: DECODE,
    what: `with ${what} on stdin`,
    verb: "ADD",
    codes,
    wrong: () => ({ stdin: text }),
  };
}

const REFUSALS: readonly Refusal[] = [
  variable("ADD", "CNI_CONTAINERID"),
  variable("ADD", "CNI_NETNS"),
  variable("ADD", "CNI_IFNAME"),
  variable("DEL", "CNI_CONTAINERID"),
  variable("DEL", "CNI_IFNAME"),
  variable("CHECK", "CNI_CONTAINERID", "0.4.0"),
  variable("CHECK", "CNI_NETNS", "0.4.0"),
  variable("CHECK", "CNI_IFNAME", "0.4.0"),
  {
    id: "errors.unknown-command",
    group: "errors",
    level: "MUST",
    section: ENV,
    what: "as a command that nobody knows",
    verb: "FROBNICATE",
    codes: [4],
    names: ["CNI_COMMAND"],
    wrong: () => ({}),
  },
  {
    id: "errors.lower-case-command",
    group: "errors",
    level: "SHOULD",
    section: ENV,
    what: "as a command in lower case",
    verb: "add",
    codes: [4],
    wrong: () => ({}),
  },
  ...(["ADD", "DEL"] as const).map(
    (verb): Refusal => ({
      id: `errors.${verb.toLowerCase()}-future-version`,
      group: "errors",
      level: "MUST",
      section: "section 5, Error: 1, incompatible CNI version",
      what: "with a cniVersion that nobody knows",
      verb,
      codes: [1],
      wrong: () => ({ conf: { cniVersion: "9.9.9" } }),
    }),
  ),
  {
    id: "errors.no-version-number",
    group: "errors",
    level: "SHOULD",
    section: "section 1: cniVersion is a semantic version",
    what: "with a cniVersion that is no version",
    verb: "ADD",
    codes: [1, 6, 7],
    wrong: () => ({ conf: { cniVersion: "latest" } }),
  },
  {
    id: "errors.version-type",
    group: "errors",
    level: "SHOULD",
    section: "section 1: cniVersion is a string",
    what: "with a cniVersion that is a number",
    verb: "ADD",
    codes: [1, 6, 7],
    wrong: () => ({ conf: { cniVersion: 1.1 } }),
  },
  {
    id: "errors.no-name",
    group: "errors",
    level: "SHOULD",
    section: CONF,
    what: "with no network name",
    verb: "ADD",
    codes: [7],
    wrong: () => ({ conf: { name: undefined } }),
  },
  {
    id: "errors.bad-name",
    group: "errors",
    level: "SHOULD",
    section: CONF,
    what: "with a network name that leads out of a directory",
    verb: "ADD",
    codes: [7],
    wrong: () => ({ conf: { name: "../../conformance" } }),
  },
  badValue(
    "id-path",
    "SHOULD",
    SKEL_ID,
    "CNI_CONTAINERID",
    "../../conformance",
    "a container ID that leads out of a directory",
  ),
  badValue("id-dash", "SHOULD", SKEL_ID, "CNI_CONTAINERID", "-conformance", "a container ID that begins with a dash"),
  badValue("id-space", "SHOULD", SKEL_ID, "CNI_CONTAINERID", "con formance", "a space in the container ID"),
  badValue("id-newline", "SHOULD", SKEL_ID, "CNI_CONTAINERID", "conformance\nx", "a line break in the container ID"),
  badValue(
    "ifname-long",
    "MUST",
    "section 2, Parameters: CNI_IFNAME",
    "CNI_IFNAME",
    "abcdefghijklmnop",
    "an interface name of 16 characters",
  ),
  badValue(
    "ifname-slash",
    "MUST",
    "section 2, Parameters: CNI_IFNAME",
    "CNI_IFNAME",
    "a/b",
    "a slash in the interface name",
  ),
  badValue("ifname-colon", "SHOULD", "convention: skel", "CNI_IFNAME", "a:b", "a colon in the interface name"),
  badValue(
    "ifname-space",
    "MUST",
    "section 2, Parameters: CNI_IFNAME",
    "CNI_IFNAME",
    "a b",
    "a space in the interface name",
  ),
  badValue(
    "ifname-dots",
    "MUST",
    "section 2, Parameters: CNI_IFNAME",
    "CNI_IFNAME",
    "..",
    "an interface name of two dots",
  ),
  ...netnsRefusals(),
  stdin("empty", "MUST", [5, 6, 7], "nothing", ""),
  stdin("no-json", "MUST", [6], "text that is not JSON", "this is no JSON"),
  stdin("cut", "MUST", [6], "JSON that is cut off", '{"cniVersion": "1.0.0", "name": "conf'),
  stdin("binary", "MUST", [6], "bytes that are not UTF-8", Uint8Array.from([0xff, 0xfe, 0x00, 0xc3, 0x28])),
  stdin("array", "MUST", [6, 7], "a JSON list", "[]"),
  stdin("null", "MUST", [6, 7], "JSON null", "null"),
  stdin("string", "MUST", [6, 7], "a JSON string", '"conformance"'),
  stdin("number", "MUST", [6, 7], "a JSON number", "7"),
  {
    id: "stdin.two-documents",
    group: "stdin abuse",
    level: "SHOULD",
    section: DECODE,
    what: "with two JSON documents on stdin",
    verb: "ADD",
    codes: [6],
    wrong: (context) => ({ stdin: `${JSON.stringify(context.request())}\n${JSON.stringify(context.request())}` }),
  },
];

function netnsRefusals(): Refusal[] {
  const netns = (
    id: string,
    what: string,
    level: Level,
    codes: readonly number[],
    path: (context: RuleContext) => string | Promise<string>,
  ): Refusal => ({
    id: `environment.netns-${id}`,
    group: "environment abuse",
    level,
    section: "section 2, Parameters: CNI_NETNS is a path to the network namespace",
    what: `with a CNI_NETNS that ${what}`,
    verb: "ADD",
    codes,
    kinds: ["interface"],
    wrong: async (context) => ({ env: { CNI_NETNS: await path(context) } }),
  });
  const fresh = ({ sandbox }: RuleContext) => join(sandbox.directory, `netns-${randomBytes(4).toString("hex")}`);
  return [
    netns("nowhere", "does not exist", "MUST", [], fresh),
    netns("file", "is a regular file", "MUST", [], (context) => {
      const path = fresh(context);
      writeFileSync(path, "");
      return path;
    }),
    netns("directory", "is a directory", "MUST", [], (context) => {
      const path = fresh(context);
      mkdirSync(path);
      return path;
    }),
    netns("fifo", "is a pipe that nobody writes to", "MUST", [], async (context) => {
      const path = fresh(context);
      await commandIn(context.host, "mkfifo", path);
      return path;
    }),
    netns("other-kind", "is a namespace of another kind", "MUST", [], () => "/proc/self/ns/uts"),
    {
      ...netns("own", "is the plugin's own", "SHOULD", [8], (context) => context.host.path),
      section: "convention: skel refuses its own namespace with 8 (after the fact)",
    },
  ];
}

async function attempt(context: RuleContext, refusal: Refusal): Promise<{ call: Call; leaves: string[] }> {
  const wrong = await refusal.wrong(context);
  const pod = await context.newPod();
  // CHECK has to have everything it needs but the one thing.
  const more = refusal.verb === "CHECK" ? { prevResult: { cniVersion: context.spec, interfaces: [], ips: [] } } : {};
  const before = await context.look(pod);
  const call = await context.call(refusal.verb, { pod, ...wrong, conf: { ...more, ...wrong.conf } });
  return { call, leaves: await context.changesSince(before) };
}

function rulesOf(refusal: Refusal): Rule[] {
  const { id, group, section, what, verb, since, kinds } = refusal;
  const common = {
    group,
    section,
    ...(since === undefined ? {} : { since }),
    ...(kinds === undefined ? {} : { kinds }),
  };
  const call = ["ADD", "DEL", "CHECK"].includes(verb) ? verb : "A call";
  const codes = refusal.codes.length === 0 ? "" : ` with code ${refusal.codes.join(" or ")}`;
  const names = refusal.names === undefined ? "" : `, naming ${refusal.names.join(", ")}`;
  return [
    {
      ...common,
      id,
      level: refusal.level,
      title: `${call} ${what} is refused, and changes nothing`,
      async run(context) {
        const { call, leaves } = await attempt(context, refusal);
        return verdictOf(refuses(call), leaves);
      },
    },
    {
      ...common,
      id: `${id}.code`,
      level: "SHOULD",
      title: `${call} ${what} is answered by an error document${codes}${names}`,
      async run(context) {
        const { call } = await attempt(context, refusal);
        return verdictOf(tellsError(call, refusal.codes, refusal.names));
      },
    },
  ];
}

export const refusalRules: readonly Rule[] = [
  ...REFUSALS.flatMap(rulesOf),
  {
    id: "environment.del-netns-own",
    group: "environment abuse",
    level: "SHOULD",
    section: "convention: skel refuses its own namespace with 8 (after the fact)",
    kinds: ["interface"],
    title: "DEL with a CNI_NETNS that is the plugin's own deletes no interface of the host",
    async run(context) {
      const pod = await context.newPod(`x${randomBytes(6).toString("hex")}`);
      await addForeignLink(context.host, pod.ifname);
      try {
        const before = await context.look();
        await context.call("DEL", { pod, env: { CNI_NETNS: context.host.path } });
        return verdictOf(await context.changesSince(before));
      } finally {
        if ((await readLink(context.host, pod.ifname)) !== undefined) {
          await commandIn(context.host, "ip", "link", "delete", pod.ifname);
        }
      }
    },
  },
  {
    id: "errors.del-swallowed",
    group: "errors",
    level: "SHOULD",
    section: "convention: containerd takes a DEL whose error says so for one that succeeded",
    title: 'No error of DEL says "not found" or "no such file or directory"',
    async run(context) {
      const pod = await context.newPod();
      const problems: string[] = [];
      for (const options of [
        { env: { CNI_IFNAME: undefined } },
        { conf: { cniVersion: "9.9.9" } },
        { env: { CNI_NETNS: context.settings.plugin } },
        { stdin: "{" },
      ]) {
        const { stdout } = await context.call("DEL", { pod, ...options });
        const words = /not found|no such file or directory/i.exec(stdout);
        if (words !== null) problems.push(`there is "${words[0]}" in ${stdout.trim()}`);
      }
      return verdictOf(problems);
    },
  },
  {
    id: "errors.document-version",
    group: "errors",
    // To 0.4.0 "must be indicated by … the following JSON"; from 1.0.0 "should output a JSON object with the following keys".
    level: "SHOULD",
    section: "section 5, Error: cniVersion is the protocol version in use",
    title: "An error document has the cniVersion of the request",
    async run(context) {
      const call = await context.call("ADD", { pod: await context.newPod(), env: { CNI_IFNAME: "a/b" } });
      const got = documentOf(call)?.["cniVersion"];
      return verdictOf(got === context.spec ? [] : [`cniVersion is ${JSON.stringify(got)}, not ${context.spec}`]);
    },
  },
];
