// SPDX-License-Identifier: Apache-2.0

import { type Added, documentOf, type RuleContext } from "../context.ts";
import { about, printsNothing, refuses, succeeds } from "../expect.ts";
import { fill, poolOf } from "../pool.ts";
import { expectThat, type Rule, RuleStop, verdictOf } from "../rule.ts";

const SECTION = "section 2, GC";

/** What GC has no business with is still as it was, and CHECK agrees. */
async function intact(context: RuleContext, added: readonly Added[], gc: () => Promise<string[]>): Promise<string[]> {
  const before = (await context.look(...added.map(({ pod }) => pod))).pods;
  const problems = await gc();
  problems.push(...(await context.changesSince({ ...(await context.look()), pods: before })));
  for (const one of added) problems.push(...about("CHECK after it", succeeds(await context.check(one))));
  return problems;
}

/** Where GC fails with a good list, its failure with a bad one shows nothing. */
async function requireGc(context: RuleContext, added: Added): Promise<void> {
  if ((await context.gc([added])).status !== 0)
    throw new RuleStop("GC with a good list, on which this rule builds, fails");
}

export const gcRules: readonly Rule[] = [
  {
    id: "gc.keeps-valid",
    group: "GC",
    level: "MUST",
    section: `${SECTION}: cni.dev/valid-attachments is the list of still valid attachments`,
    since: "1.1.0",
    title: "GC succeeds and leaves the attachments of its list as they were",
    async run(context) {
      const added = [await context.addNew(), await context.addNew()];
      const host = await context.look();
      const problems = await intact(context, added, async () => succeeds(await context.gc(added)));
      return verdictOf(problems, await context.changesSince(host));
    },
  },
  {
    id: "gc.silent",
    group: "GC",
    level: "SHOULD",
    section: "section 5 has no result type for GC",
    since: "1.1.0",
    title: "GC prints nothing on stdout",
    async run(context) {
      return verdictOf(printsNothing(await context.gc([await context.addNew()])));
    },
  },
  {
    id: "gc.empty-list",
    group: "GC",
    level: "SHOULD",
    section: `${SECTION}: generally complete without error`,
    since: "1.1.0",
    title: "GC with an empty list succeeds, and again, and a late DEL of what it took succeeds too",
    async run(context) {
      const added = await context.addNew();
      await context.vanish(added.pod);
      const first = succeeds(await context.gc([]));
      const second = about("again", succeeds(await context.gc([])));
      return verdictOf(first, second, about("DEL", succeeds(await context.del(added))));
    },
  },
  {
    id: "gc.frees-stale",
    group: "GC",
    level: "SHOULD",
    section: `${SECTION}: remove any IPAM reservations of attachments not in the list`,
    since: "1.1.0",
    needs: ["pool"],
    title: "GC frees the addresses of attachments that are not in its list",
    async run(context) {
      const pool = poolOf(context);
      const { added, failed } = await fill(context, pool);
      if (failed !== undefined) return verdictOf(["the network could not be filled"]);
      const [kept, ...stale] = added;
      if (kept === undefined) return verdictOf(["the network could not be filled"]);
      for (const { pod } of stale) await context.vanish(pod);
      const problems = succeeds(await context.gc([kept], pool.conf));
      const again = await fill(context, pool, stale.length);
      const free = `${again.added.length} of ${stale.length} addresses are free after it`;
      const taken = kept.result.addresses.map(({ address }) => address);
      const given = again.added.flatMap(({ result }) => result.addresses.map(({ address }) => address));
      return verdictOf(
        problems,
        expectThat(again.failed === undefined, free),
        taken.filter((address) => given.includes(address)).map((address) => `${address} was valid, and given again`),
      );
    },
  },
  {
    id: "gc.leaves-nothing",
    group: "GC",
    level: "SHOULD",
    section: `${SECTION}: remove as many stale resources as possible`,
    since: "1.1.0",
    title: "GC leaves nothing on the host of an attachment whose namespace is gone",
    async run(context) {
      const before = await context.look();
      const added = await context.addNew();
      await context.vanish(added.pod);
      return verdictOf(succeeds(await context.gc([])), await context.changesSince(before));
    },
  },
  {
    id: "gc.other-ifname",
    group: "GC",
    level: "SHOULD",
    section: `${SECTION}: containerID and ifname together`,
    since: "1.1.0",
    title: "GC keeps an attachment only when both its container and its interface are in the list",
    async run(context) {
      const before = await context.look();
      const added = await context.addNew();
      await context.vanish(added.pod);
      const other = { ...added, pod: { ...added.pod, ifname: "other0" } };
      return verdictOf(succeeds(await context.gc([other])), await context.changesSince(before));
    },
  },
  {
    id: "gc.other-network",
    group: "GC",
    level: "MUST",
    section: `${SECTION}: attachments to this network`,
    since: "1.1.0",
    kinds: ["interface"],
    title: "GC of one network leaves an attachment of another one as it was",
    async run(context) {
      const conf = { name: `${context.settings.conf.name}-other` };
      const added = await context.addNew({ conf });
      const before = await context.look(added.pod);
      const problems = succeeds(await context.gc([]));
      problems.push(...(await context.changesSince(before)));
      return verdictOf(problems, about("CHECK after it", succeeds(await context.check(added, { conf }))));
    },
  },
  {
    id: "gc.older-key",
    group: "GC",
    level: "SHOULD",
    section: "1.1.0, section 3: cni.dev/attachments; libcni sends both keys",
    since: "1.1.0",
    title: "GC understands the key cni.dev/attachments of the 1.1.0 text",
    async run(context) {
      const added = await context.addNew();
      const { containerId: containerID, ifname } = added.pod;
      const conf = { "cni.dev/attachments": [{ containerID, ifname }] };
      return verdictOf(await intact(context, [added], async () => succeeds(await context.call("GC", { conf }))));
    },
  },
  {
    id: "gc.no-key",
    group: "GC",
    level: "SHOULD",
    section: `${SECTION}: the configuration contains an additional key; without it nothing is known to be stale`,
    since: "1.1.0",
    title: "GC without the list fails and frees nothing",
    async run(context) {
      const added = await context.addNew();
      await requireGc(context, added);
      return verdictOf(await intact(context, [added], async () => refuses(await context.call("GC"))));
    },
  },
  {
    id: "gc.bad-list",
    group: "GC",
    level: "SHOULD",
    section: `${SECTION}: array of objects`,
    since: "1.1.0",
    title: "GC with a list that is none, or with entries that are none, fails and frees nothing",
    async run(context) {
      const added = await context.addNew();
      await requireGc(context, added);
      const problems: string[] = [];
      for (const value of [{}, "all", [{ containerID: 7, ifname: "eth0" }], ["eth0"]]) {
        const conf = { "cni.dev/valid-attachments": value };
        const gc = async () => refuses(await context.call("GC", { conf }));
        problems.push(...about(JSON.stringify(value), await intact(context, [added], gc)));
      }
      return verdictOf(problems);
    },
  },
  {
    id: "gc.too-old",
    group: "GC",
    level: "SHOULD",
    section: "GC came with 1.1.0; convention: skel answers 1, config version does not allow GC",
    until: "1.0.0",
    title: "GC with a configuration before 1.1.0 fails with code 1",
    async run(context) {
      context.requireVersion("1.1.0", "GC");
      const call = await context.gc([]);
      const code = documentOf(call)?.["code"];
      return verdictOf(refuses(call), expectThat(code === 1, `code is ${JSON.stringify(code)}, not 1`));
    },
  },
];
