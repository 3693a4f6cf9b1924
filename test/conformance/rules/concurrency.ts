// SPDX-License-Identifier: Apache-2.0
//
// Many containers at once; one container never twice at the same time, which runtimes don't do (section 3).

import { type Added, documentOf, type Pod, type RuleContext } from "../context.ts";
import { about, succeeds } from "../expect.ts";
import { sharedAddresses } from "../pool.ts";
import { readResult } from "../result.ts";
import { type Rule, verdictOf } from "../rule.ts";

const SECTION = "section 3, Lifecycle & Ordering: different containers in parallel; plugins must lock shared resources";

const AT_ONCE = 32;

/** How many at once the network has addresses for. */
function manyFor({ settings }: RuleContext): number {
  return Math.min(AT_ONCE, settings.poolSize ?? AT_ONCE);
}

async function addAtOnce(context: RuleContext, pods: readonly Pod[]): Promise<{ added: Added[]; problems: string[] }> {
  const calls = await Promise.all(pods.map((pod) => context.call("ADD", { pod })));
  const added: Added[] = [];
  const problems: string[] = [];
  for (const [index, call] of calls.entries()) {
    const document = call.status === 0 ? documentOf(call) : undefined;
    const pod = pods[index];
    if (document === undefined || pod === undefined) problems.push(...about("ADD", ["failed", ...succeeds(call)]));
    else added.push({ pod, call, result: readResult(document, context.spec) });
  }
  return { added, problems: [...problems, ...sharedAddresses(added)] };
}

async function delAtOnce(context: RuleContext, added: readonly Added[]): Promise<string[]> {
  const calls = await Promise.all(added.map((one) => context.del(one)));
  return calls.flatMap((call) => about("DEL", succeeds(call)));
}

export const concurrencyRules: readonly Rule[] = [
  {
    id: "concurrency.distinct",
    group: "concurrency",
    level: "MUST",
    section: SECTION,
    title: `${AT_ONCE} containers that are added at once succeed, and no two get the same address`,
    async run(context) {
      const { problems } = await addAtOnce(context, await context.newPods(manyFor(context)));
      return verdictOf(problems);
    },
  },
  {
    id: "concurrency.interleaved",
    group: "concurrency",
    level: "MUST",
    section: SECTION,
    title: "ADDs while other containers are deleted succeed, and no two that are left have the same address",
    async run(context) {
      const half = Math.floor(manyFor(context) / 2);
      const old = await addAtOnce(context, await context.newPods(half));
      const problems = [...old.problems];
      let left = old.added;
      for (let round = 0; round < 2; round++) {
        const goes = left.slice(0, Math.ceil(left.length / 2));
        const stays = left.slice(goes.length);
        const pods = await context.newPods(goes.length);
        const [dels, adds] = await Promise.all([delAtOnce(context, goes), addAtOnce(context, pods)]);
        left = [...stays, ...adds.added];
        problems.push(...dels, ...adds.problems, ...sharedAddresses(left));
      }
      return verdictOf(problems);
    },
  },
  {
    id: "concurrency.leaves-nothing",
    group: "concurrency",
    level: "MUST",
    section: "section 2, DEL: undo any modifications applied in ADD",
    title: "Containers that are added at once and deleted at once leave everything as before",
    async run(context) {
      const pods = await context.newPods(Math.floor(manyFor(context) / 2));
      const before = await context.look(...pods.slice(0, 2));
      const { added, problems } = await addAtOnce(context, pods);
      problems.push(...(await delAtOnce(context, added)));
      return verdictOf(problems, await context.changesSince(before));
    },
  },
];
