// SPDX-License-Identifier: Apache-2.0

import { documentOf } from "../context.ts";
import { printsNothing, refuses, succeeds, tellsError } from "../expect.ts";
import { fill, poolOf } from "../pool.ts";
import { expectThat, type Rule, verdictOf } from "../rule.ts";

const SECTION = "section 2, STATUS";

export const statusRules: readonly Rule[] = [
  {
    id: "status.ready",
    group: "STATUS",
    level: "MUST",
    section: `${SECTION}: zero if the plugin is ready to service ADD requests`,
    since: "1.1.0",
    title: "STATUS succeeds when ADD does",
    async run(context) {
      await context.addNew();
      return verdictOf(succeeds(await context.call("STATUS")));
    },
  },
  {
    id: "status.silent",
    group: "STATUS",
    level: "SHOULD",
    section: "section 5 has no result type for STATUS",
    since: "1.1.0",
    title: "STATUS that is well prints nothing on stdout",
    async run(context) {
      return verdictOf(printsNothing(await context.call("STATUS")));
    },
  },
  {
    id: "status.environment",
    group: "STATUS",
    level: "SHOULD",
    section: `${SECTION}: CNI_PATH is optional (skel requires it)`,
    since: "1.1.0",
    title: "STATUS needs no variable but CNI_COMMAND",
    async run(context) {
      const env = context.settings.conf.fields["ipam"] === undefined ? { CNI_PATH: undefined } : {};
      return verdictOf(succeeds(await context.call("STATUS", { env })));
    },
  },
  {
    id: "status.nothing-done",
    group: "STATUS",
    level: "MUST",
    section: `${SECTION}: purely informational`,
    since: "1.1.0",
    title: "STATUS changes nothing",
    async run(context) {
      const { pod } = await context.addNew();
      const before = await context.look(pod);
      await context.call("STATUS");
      return verdictOf(await context.changesSince(before));
    },
  },
  {
    id: "status.exhausted",
    group: "STATUS",
    level: "SHOULD",
    section: `${SECTION}: an error if resources are exhausted; 50, the plugin is not available`,
    since: "1.1.0",
    needs: ["pool"],
    title: "STATUS fails with code 50 when there is no address left",
    async run(context) {
      const pool = poolOf(context);
      const { failed } = await fill(context, pool);
      if (failed !== undefined) return verdictOf(["the network could not be filled"]);
      const call = await context.call("STATUS", { conf: pool.conf });
      return verdictOf(refuses(call), tellsError(call, [50]));
    },
  },
  {
    id: "status.too-old",
    group: "STATUS",
    level: "SHOULD",
    section: "STATUS came with 1.1.0; convention: skel answers 1, config version does not allow STATUS",
    until: "1.0.0",
    title: "STATUS with a configuration before 1.1.0 fails with code 1",
    async run(context) {
      context.requireVersion("1.1.0", "STATUS");
      const call = await context.call("STATUS");
      const code = documentOf(call)?.["code"];
      return verdictOf(refuses(call), expectThat(code === 1, `code is ${JSON.stringify(code)}, not 1`));
    },
  },
];
