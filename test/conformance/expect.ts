// SPDX-License-Identifier: Apache-2.0
//
// What rules ask of a call. Each answers with what is wrong, and nothing when all is well.

import { documentOf } from "./context.ts";
import type { Call } from "./plugin.ts";

/** It ended by itself. Everything else about a call presumes that. */
export function ended({ killedFor, signal }: Call): string[] {
  if (killedFor === "time") return ["it did not end in time and was killed"];
  if (killedFor === "output") return ["it printed without end and was killed"];
  return signal === null ? [] : [`it was ended by ${signal}`];
}

/** Exit status 0. */
export function succeeds(call: Call): string[] {
  const problems = ended(call);
  if (problems.length > 0 || call.status === 0) return problems;
  return [`exit status is ${call.status}, not 0`];
}

/** Another exit status, of the program's own will, and nothing on stdout that a runtime can't read. */
export function refuses(call: Call): string[] {
  const problems = ended(call);
  if (problems.length > 0) return problems;
  if (call.status === 0) return ["exit status is 0: it did not refuse"];
  return readable(call);
}

/** Either way, but no crash: it ends by itself, and on stdout is nothing or one JSON object. */
export function survives(call: Call): string[] {
  const problems = ended(call);
  return problems.length > 0 ? problems : readable(call);
}

function readable(call: Call): string[] {
  if (call.stdout.trim() === "" || documentOf(call) !== undefined) return [];
  return ["stdout has something that is not one JSON object"];
}

export function printsNothing({ stdout }: Call): string[] {
  return stdout === "" ? [] : ["there is something on stdout"];
}

/** The error document with one of the codes; its texts name each of `names`. */
export function tellsError(call: Call, codes: readonly number[], names: readonly string[] = []): string[] {
  const document = documentOf(call);
  if (document === undefined) return ["there is no error document (one JSON object) on stdout"];
  const { code, msg, details } = document;
  const problems: string[] = [];
  if (typeof code !== "number" || !Number.isInteger(code) || code < 0)
    problems.push(`code is ${show(code)}, not a number`);
  else if (codes.length > 0 && !codes.includes(code)) problems.push(`code is ${code}, not ${codes.join(" or ")}`);
  if (typeof msg !== "string" || msg === "") problems.push(`msg is ${show(msg)}, not a text`);
  if (details !== undefined && typeof details !== "string") problems.push(`details is ${show(details)}, not a text`);
  const text = `${msg} ${details}`;
  for (const name of names) if (!text.includes(name)) problems.push(`neither msg nor details has ${name} in it`);
  return problems;
}

/** Puts a word before each, to say which call it is about. */
export function about(what: string, problems: readonly string[]): string[] {
  return problems.map((problem) => `${what}: ${problem}`);
}

function show(value: unknown): string {
  return value === undefined ? "missing" : JSON.stringify(value);
}
