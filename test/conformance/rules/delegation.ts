// SPDX-License-Identifier: Apache-2.0

import { isObject } from "../conf.ts";
import { type Added, documentOf, type RuleContext } from "../context.ts";
import { createDelegate, DELEGATE_ERROR, DELEGATE_STDERR, type Delegate, type DelegateCall } from "../delegate.ts";
import { about, refuses, succeeds } from "../expect.ts";
import { expectThat, type Rule, type Verdict, verdictOf } from "../rule.ts";
import type { SpecVersion } from "../spec.ts";

const SECTION = "section 4, Delegated plugin execution procedure";

/** The delegate is there, and the plugin told to use it. */
async function withDelegate(context: RuleContext, work: (delegate: Delegate) => Promise<Verdict>): Promise<Verdict> {
  const delegate = await createDelegate(context);
  try {
    return await work(delegate);
  } finally {
    // It has to outlive what is left to delete.
    delegate.recover();
    await context.cleanUp();
    delegate.remove();
  }
}

async function add(context: RuleContext, { conf, cniPath }: Delegate): Promise<Added> {
  return context.addNew({ conf, env: { CNI_PATH: cniPath } });
}

function options({ conf, cniPath }: Delegate) {
  return { conf, env: { CNI_PATH: cniPath } };
}

const VARIABLES = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH"];

/** What the delegate got against what the plugin got. */
function sameInput(
  calls: readonly DelegateCall[],
  sent: { env: DelegateCall["env"]; stdin: string | Uint8Array },
): string[] {
  const [call] = calls;
  if (call === undefined) return ["the delegate was not called"];
  const got: unknown = JSON.parse(call.stdin);
  const wanted = JSON.parse(String(sent.stdin)) as Record<string, unknown>;
  const fields = isObject(got) ? got : {};
  return [
    ...VARIABLES.filter((name) => call.env[name] !== sent.env[name]).map(
      (name) => `the delegate got ${name}=${call.env[name]}, and the plugin ${sent.env[name]}`,
    ),
    ...Object.entries(wanted)
      .filter(([key, value]) => JSON.stringify(fields[key]) !== JSON.stringify(value))
      .map(
        ([key, value]) =>
          `the delegate got ${key}: ${JSON.stringify(fields[key])}, and the plugin ${JSON.stringify(value)}`,
      ),
  ];
}

/** ADD fails as its delegate does, and nothing is left of it: after its DEL, or even before. */
async function failsWithIt(context: RuleContext, delegate: Delegate, afterDel: boolean): Promise<Verdict> {
  delegate.fail("ADD");
  const pod = await context.newPod();
  const before = await context.look(pod);
  const add = await context.call("ADD", { pod, ...options(delegate) });
  const del = afterDel ? about("DEL", succeeds(await context.call("DEL", { pod, ...options(delegate) }))) : [];
  const changes = await context.changesSince(before, (line) => line.includes("/calls/"));
  return verdictOf(refuses(add), del, changes);
}

/** A verb after an ADD reaches the delegate; and when the delegate fails it, so does the plugin. */
function forwarded(
  verb: "DEL" | "CHECK" | "GC" | "STATUS",
  since: SpecVersion | undefined,
  call: (context: RuleContext, added: Added, delegate: Delegate) => ReturnType<RuleContext["call"]>,
): Rule[] {
  const common = {
    group: "delegation",
    ...(since === undefined ? {} : { since }),
    kinds: ["interface"],
    needs: ["delegate"],
  } as const;
  return [
    {
      ...common,
      id: `delegation.${verb.toLowerCase()}`,
      level: "MUST",
      section: verb === "STATUS" ? "section 2, STATUS: must also execute a STATUS request to that plugin" : SECTION,
      title: `${verb} is passed on to the delegate`,
      run: (context) =>
        withDelegate(context, async (delegate) => {
          const finished = await call(context, await add(context, delegate), delegate);
          return verdictOf(succeeds(finished), sameInput(delegate.calls(verb), finished));
        }),
    },
    {
      ...common,
      id: `delegation.${verb.toLowerCase()}-fails`,
      level: "SHOULD",
      section: `${SECTION}: if any of the delegated plugins return error, error should be returned`,
      title: `${verb} fails when the delegate's does, with the delegate's words`,
      run: (context) =>
        withDelegate(context, async (delegate) => {
          const added = await add(context, delegate);
          delegate.fail(verb);
          const finished = await call(context, added, delegate);
          const words = expectThat(
            finished.stdout.includes(DELEGATE_ERROR),
            "stdout does not have the delegate's message",
          );
          return verdictOf(refuses(finished), words);
        }),
    },
  ];
}

export const delegationRules: readonly Rule[] = [
  {
    id: "delegation.add",
    group: "delegation",
    level: "MUST",
    section: "section 4, Delegated Plugin protocol: the same environment, the complete network configuration",
    kinds: ["interface"],
    needs: ["delegate"],
    title: "ADD finds the delegate by CNI_PATH and gives it its own environment and whole configuration",
    run: (context) =>
      withDelegate(context, async (delegate) => {
        const { call } = await add(context, delegate);
        return verdictOf(sameInput(delegate.calls("ADD"), call));
      }),
  },
  {
    id: "delegation.stderr",
    group: "delegation",
    level: "SHOULD",
    section: `${SECTION}: ensure that the delegated plugin's stderr is output to the calling plugin's stderr`,
    kinds: ["interface"],
    needs: ["delegate"],
    title: "What the delegate prints on stderr comes out on the plugin's stderr",
    run: (context) =>
      withDelegate(context, async (delegate) => {
        const { call } = await add(context, delegate);
        return verdictOf(expectThat(call.stderr.includes(DELEGATE_STDERR), "the delegate's stderr is not there"));
      }),
  },
  {
    id: "delegation.add-fails",
    group: "delegation",
    level: "MUST",
    section: "section 4; section 2, Errors",
    kinds: ["interface"],
    needs: ["delegate"],
    title: "ADD fails when the delegate's does, and its DEL takes away what it left",
    run: (context) => withDelegate(context, (delegate) => failsWithIt(context, delegate, true)),
  },
  {
    id: "delegation.add-fails-leaves-nothing",
    group: "delegation",
    level: "SHOULD",
    section: "section 3, Lifecycle & Ordering: the DEL after a failed ADD may never come",
    kinds: ["interface"],
    needs: ["delegate"],
    title: "ADD that the delegate fails leaves nothing, even before its DEL",
    run: (context) => withDelegate(context, (delegate) => failsWithIt(context, delegate, false)),
  },
  {
    id: "delegation.add-fails.code",
    group: "delegation",
    level: "SHOULD",
    section: "section 4; section 5, Error",
    kinds: ["interface"],
    needs: ["delegate"],
    title: "An ADD that the delegate fails has the delegate's words in its error",
    run: (context) =>
      withDelegate(context, async (delegate) => {
        delegate.fail("ADD");
        const call = await context.call("ADD", { pod: await context.newPod(), ...options(delegate) });
        const text = JSON.stringify(documentOf(call) ?? {});
        return verdictOf(
          expectThat(text.includes(DELEGATE_ERROR), "the error document does not have the delegate's message"),
        );
      }),
  },
  {
    id: "delegation.add-fails-del",
    group: "delegation",
    level: "SHOULD",
    section: `${SECTION}: if a delegated plugin fails on ADD, execute it again with DEL before returning failure`,
    kinds: ["interface"],
    needs: ["delegate"],
    title: "After an ADD that failed the delegate is called with DEL",
    run: (context) =>
      withDelegate(context, async (delegate) => {
        delegate.fail("ADD");
        await context.call("ADD", { pod: await context.newPod(), ...options(delegate) });
        return verdictOf(expectThat(delegate.calls("DEL").length > 0, "the delegate got no DEL"));
      }),
  },
  {
    id: "delegation.missing",
    group: "delegation",
    level: "MUST",
    section: `${SECTION}: look up the plugin binary by searching CNI_PATH`,
    kinds: ["interface"],
    needs: ["delegate"],
    title: "ADD fails when there is no such delegate",
    async run(context) {
      const conf = { ipam: { type: "conformance-of-nobody" } };
      return verdictOf(refuses(await context.call("ADD", { pod: await context.newPod(), conf })));
    },
  },
  ...forwarded("DEL", undefined, (context, added, delegate) => context.del(added, options(delegate))),
  ...forwarded("CHECK", "0.4.0", (context, added, delegate) => context.check(added, options(delegate))),
  ...forwarded("GC", "1.1.0", (context, { pod }, delegate) => {
    const valid = [{ containerID: pod.containerId, ifname: pod.ifname }];
    const { conf, env } = options(delegate);
    return context.call("GC", { conf: { ...conf, "cni.dev/valid-attachments": valid }, env });
  }),
  ...forwarded("STATUS", "1.1.0", (context, _added, delegate) => context.call("STATUS", options(delegate))),
];
