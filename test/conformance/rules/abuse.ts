// SPDX-License-Identifier: Apache-2.0
//
// Input that is odd, but that a plugin may take or refuse as it likes. It must not crash, nor leave anything.

import type { CallOptions, RuleContext } from "../context.ts";
import { about, succeeds, survives } from "../expect.ts";
import { type Group, type Level, type Rule, type Verdict, verdictOf } from "../rule.ts";

/** An ADD that may go either way, then a good DEL; afterwards everything is as before. */
async function takenOrRefused(context: RuleContext, options: Omit<CallOptions, "pod">): Promise<Verdict> {
  const pod = await context.newPod();
  const before = await context.look(pod);
  const add = about("ADD", survives(await context.call("ADD", { ...options, pod })));
  // What it took under an odd name has to be given back under that name.
  const odd = options.env === undefined ? [] : survives(await context.call("DEL", { pod, env: options.env }));
  const del = about("DEL", succeeds(await context.call("DEL", { pod })));
  return verdictOf(add, about("DEL in the same words", odd), del, await context.changesSince(before));
}

/** The request's text with one more key, whose value is given as it is to be on the wire. */
function withRaw(context: RuleContext, value: Uint8Array | string): Uint8Array {
  const text = JSON.stringify(context.request());
  return Buffer.concat([Buffer.from(`${text.slice(0, -1)},"x-conformance":`), Buffer.from(value), Buffer.from("}")]);
}

interface Odd {
  readonly id: string;
  readonly group: Group;
  readonly level?: Level;
  readonly title: string;
  readonly options: (context: RuleContext) => Omit<CallOptions, "pod">;
}

const MIB = 1 << 20;
const DEEP = 100_000;

const ODD: readonly Odd[] = [
  {
    id: "stdin.huge",
    group: "stdin abuse",
    title: "A configuration of 4 MiB is taken or refused, without a crash",
    options: (context) => ({ stdin: withRaw(context, `"${"x".repeat(4 * MIB)}"`) }),
  },
  {
    id: "stdin.deep",
    group: "stdin abuse",
    title: `A configuration with ${DEEP} lists in each other is taken or refused, without a crash`,
    options: (context) => ({ stdin: withRaw(context, "[".repeat(DEEP) + "]".repeat(DEEP)) }),
  },
  {
    id: "stdin.not-utf8",
    group: "stdin abuse",
    title: "A string with bytes that are not UTF-8 is taken or refused, without a crash",
    options: (context) => ({
      stdin: withRaw(context, Uint8Array.from([0x22, 0xff, 0xc3, 0x28, 0xed, 0xa0, 0x80, 0x22])),
    }),
  },
  {
    id: "stdin.byte-order-mark",
    group: "stdin abuse",
    title: "A byte order mark before the configuration is taken or refused, without a crash",
    options: (context) => ({ stdin: `\uFEFF${JSON.stringify(context.request())}` }),
  },
  {
    id: "stdin.repeated-key",
    group: "stdin abuse",
    title: "A key that is there twice is taken or refused, without a crash",
    options: (context) => ({
      stdin: JSON.stringify(context.request()).replace("{", `{"name":"conformance-other","x-conformance":1,`),
    }),
  },
  {
    id: "stdin.prototype-key",
    group: "stdin abuse",
    title: "Keys that mean something to the plugin's language are taken or refused, without a crash",
    options: (context) => ({
      stdin: withRaw(context, '1,"__proto__":{"name":"conformance-other"},"constructor":null'),
    }),
  },
  {
    id: "stdin.odd-prev-result",
    group: "stdin abuse",
    title: "A prevResult that is a list is taken or refused, without a crash",
    options: () => ({ conf: { prevResult: [] } }),
  },
  {
    id: "environment.args-no-pairs",
    group: "environment abuse",
    title: "CNI_ARGS that are no pairs are taken or refused, without a crash",
    options: () => ({ env: { CNI_ARGS: ";;=;a=b=c;conformance" } }),
  },
  {
    id: "environment.args-huge",
    group: "environment abuse",
    title: "CNI_ARGS of 100 KiB are taken or refused, without a crash",
    options: () => ({ env: { CNI_ARGS: `IgnoreUnknown=1;CONFORMANCE=${"x".repeat(100 << 10)}` } }),
  },
  {
    id: "environment.id-long",
    group: "environment abuse",
    title: "A container ID of 4,000 characters is taken or refused, without a crash",
    options: () => ({ env: { CNI_CONTAINERID: "c".repeat(4000) } }),
  },
  {
    id: "environment.netns-long",
    group: "environment abuse",
    title: "A CNI_NETNS of 100 KiB is refused, without a crash",
    options: () => ({ env: { CNI_NETNS: `/${"x".repeat(100 << 10)}` } }),
  },
  {
    id: "environment.path-odd",
    group: "environment abuse",
    title: "A CNI_PATH of directories that do not exist is taken or refused, without a crash",
    options: () => ({ env: { CNI_PATH: "::/nowhere:relative" } }),
  },
];

export const abuseRules: readonly Rule[] = [
  ...ODD.map(
    ({ id, group, title, level = "MUST", options }): Rule => ({
      id,
      group,
      level,
      section: "section 2, Errors: 0 on success, non-zero on failure; section 5, Error",
      title,
      run: (context) => takenOrRefused(context, options(context)),
    }),
  ),
  {
    id: "environment.unknown-variables",
    group: "environment abuse",
    level: "SHOULD",
    section: "convention: runtimes pass on their own environment",
    title: "Variables that the plugin does not know are ignored",
    async run(context) {
      const env = {
        CNI_CONFORMANCE: "1",
        TRACEPARENT: "no trace",
        LANG: "xx_XX",
        HOME: "/nowhere",
        TMPDIR: "/nowhere",
      };
      return verdictOf(succeeds(await context.call("ADD", { pod: await context.newPod(), env })));
    },
  },
  {
    id: "environment.none-but-cni",
    group: "environment abuse",
    level: "SHOULD",
    section: "section 2, ADD: required environment parameters",
    title: "ADD needs no PATH",
    async run(context) {
      return verdictOf(succeeds(await context.call("ADD", { pod: await context.newPod(), env: { PATH: undefined } })));
    },
  },
];
