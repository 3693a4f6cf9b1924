// SPDX-License-Identifier: Apache-2.0
//
// What was sent and what came back, for people.

import type { Call } from "../plugin.ts";

const TEXT_MAX = 700;
const CALLS_MAX = 3;

/** The last calls of a rule, each in a few lines. */
export function transcript(calls: readonly Call[]): string[] {
  const shown = calls.slice(-CALLS_MAX);
  const left = calls.length - shown.length;
  return [
    ...(left > 0 ? [`(${left} earlier ${left === 1 ? "call" : "calls"} left out)`] : []),
    ...shown.flatMap(oneCall),
  ];
}

function oneCall({ env, stdin, stdout, stderr, status, signal, killedFor }: Call): string[] {
  const variables = Object.entries(env)
    .filter(([name]) => name.startsWith("CNI_"))
    .map(([name, value]) => `${name}=${cut(value, 200)}`);
  const end = killedFor === null ? (signal ?? `exit status ${status}`) : `killed for its ${killedFor}`;
  return [
    `sent  ${variables.join(" ") || "no CNI_ variable"}`,
    `stdin ${cut(printable(stdin), TEXT_MAX) || "nothing"}`,
    `got   ${end}; stdout ${cut(stdout.trim(), TEXT_MAX) || "nothing"}`,
    ...(stderr.trim() === "" ? [] : [`      stderr ${cut(stderr.trim(), 300)}`]),
  ].map(oneLine);
}

function printable(data: string | Uint8Array): string {
  return typeof data === "string" ? data : Buffer.from(data).toString("latin1");
}

function cut(text: string, most: number): string {
  return text.length <= most ? text : `${text.slice(0, most)}… (${text.length} characters)`;
}

function oneLine(text: string): string {
  // Whatever a plugin prints, a terminal and a Markdown file get characters that stay where they are.
  return text.replace(/\s*\n\s*/g, " ").replace(/[^\x20-\x7e\u00a0-\uffff]/g, "�");
}
