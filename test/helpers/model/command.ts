// SPDX-License-Identifier: Apache-2.0
//
// A step of a model run, and the look at everything that follows it.

import type fc from "fast-check";
import { differences, learn, settle } from "./differences.ts";
import type { Model } from "./model.ts";
import type { Reality } from "./reality.ts";

export type Command = fc.AsyncCommand<Model, Reality>;

/** Something that is not as it has to be. Its message tells the story up to there. */
export class InvariantError extends Error {
  override readonly name = "InvariantError";
  readonly code = "INVARIANT";
  constructor(problems: readonly string[], { story }: Model, cause?: unknown) {
    super([...problems, "what was done:", ...story.map((line, i) => `  ${i + 1}. ${line}`)].join("\n"), { cause });
  }
}

/** Compares everything once, and lets what is open be decided first. */
export async function verify(model: Model, reality: Reality): Promise<void> {
  const seen = await reality.see(model.daemonUp);
  learn(model, seen);
  const problems = differences(model, seen);
  if (problems.length > 0) throw new InvariantError(problems, model);
  settle(model, seen);
}

/** A command from its name and what it does; what it returns is told in the story. */
export function command(
  name: string,
  run: (model: Model, reality: Reality) => Promise<string>,
  check: (model: Model) => boolean = () => true,
): Command {
  return {
    toString: () => name,
    // Readonly<> has no private members, so it is no Model any more.
    check: (model) => check(model as Model),
    async run(model, reality) {
      try {
        model.story.push(`${name} …`);
        const outcome = await run(model, reality);
        model.story[model.story.length - 1] = `${name}: ${outcome}`;
      } catch (error) {
        throw error instanceof InvariantError ? error : new InvariantError([String(error)], model, error);
      }
      await verify(model, reality);
    },
  };
}
