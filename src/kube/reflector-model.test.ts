// SPDX-License-Identifier: Apache-2.0
//
// Whatever happens to objects and to the way to them, in whatever order: in the end the reflector has what the API server has,
// and what it told on the way adds up to that.
import fc from "fast-check";
import { expect, test, vi } from "vitest";
import { type KubeApiDouble, startDouble } from "../../test/helpers/kube-api/double.ts";
import { type Kind, targetOf } from "../../test/helpers/kube-api/kinds.ts";
import { nodeObject } from "../../test/helpers/kube-api/seed.ts";
import { formatPrefix } from "../net/prefix.ts";
import { openConnection } from "./connection.ts";
import { KubeHttp } from "./http.ts";
import type { KubeNode } from "./objects.ts";
import { parseNode } from "./parse-node.ts";
import { Reflector } from "./reflector.ts";
import { NODES } from "./resources.ts";
import { VirtualClock } from "./testing/virtual-clock.ts";

const KIND = targetOf("/api/v1/nodes")?.kind as Kind;
const NAMES = ["a", "b", "c"];

/** Makes, changes, deletes or replaces a node, past HTTP: so it also happens while there is none. */
function write({ store }: KubeApiDouble, name: string, number: number): void {
  const there = store.list(KIND, "").some(({ metadata }) => metadata.name === name);
  if (!there) store.create(KIND, "", nodeObject(number, name) as never);
  else if (number % 3 === 0) store.delete(KIND, "", name);
  else if (number % 3 === 1) {
    store.delete(KIND, "", name);
    store.create(KIND, "", nodeObject(number, name) as never);
  } else {
    const annotations = { [number % 2 === 0 ? "flatnet.dev/note" : "example.com/note"]: `${number}` };
    store.update(KIND, "", name, "", (node) => ({ ...node, metadata: { ...node.metadata, annotations } }));
  }
}

const TROUBLES: Record<string, (server: KubeApiDouble) => unknown> = {
  reset: (server) => server.resetConnections(),
  end: ({ watches }) => watches.end(),
  expire: ({ watches }) => watches.fail(410, "Expired"),
  failWatch: ({ watches }) => watches.fail(500, "InternalError"),
  forget: ({ store }) => store.compact(),
  bookmark: ({ watches }) => watches.bookmark(),
  refuse: ({ faults }) => faults.fail({ status: 503, times: 2 }),
  busy: ({ faults }) => faults.fail({ status: 429, times: 1, retryAfter: 2 }),
  cut: ({ faults }) => {
    faults.cutListAfter = 300;
  },
  stop: (server) => server.stop(),
  start: (server) => server.start(),
};

const writes = fc.record({ write: fc.constantFrom(...NAMES), number: fc.integer({ min: 1, max: 200 }) });
const step = fc.oneof(
  { weight: 3, arbitrary: writes },
  { weight: 2, arbitrary: fc.record({ trouble: fc.constantFrom(...Object.keys(TROUBLES)) }) },
  { weight: 1, arbitrary: fc.record({ passMs: fc.constantFrom(0, 1000, 60_000, 600_000) }) },
  // It is away for so long that it has forgotten what happened meanwhile.
  { weight: 1, arbitrary: fc.record({ missed: fc.array(writes, { minLength: 1, maxLength: 4 }) }) },
);

const inWords = (node: KubeNode) =>
  `${node.name} ${node.uid} ${node.podCIDRs.map(formatPrefix)} ${JSON.stringify(node.annotations)}`;

test("whatever happens, what is known and what was told are in the end what is there", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.boolean(), async (steps, pagesAlways) => {
      const server = await startDouble({ pagesAlways });
      const http = new KubeHttp(openConnection({ apiServer: server.url }), { userAgent: "test" });
      const clock = new VirtualClock();
      const nodes = new Reflector(http, NODES, { clock });
      const told = new Map<string, KubeNode>();
      const mistakes: string[] = [];
      nodes.subscribe((changes) => {
        for (const { key, before, after } of changes) {
          if (told.get(key) !== before) mistakes.push(`${key} was something else before`);
          if (before !== undefined && after !== undefined && before.uid !== after.uid) mistakes.push(`${key} is two`);
          if (after === undefined) told.delete(key);
          else told.set(key, after);
        }
      });
      nodes.start();
      try {
        for (const it of steps) {
          if ("write" in it) write(server, it.write, it.number);
          else if ("missed" in it) {
            await server.stop();
            for (const missed of it.missed) write(server, missed.write, missed.number);
            server.store.compact();
            await server.start();
          } else if ("trouble" in it) await TROUBLES[it.trouble]?.(server);
          else {
            await new Promise((resolve) => setTimeout(resolve, 1));
            clock.advance(it.passMs);
          }
        }
        server.faults.heal();
        server.faults.cutListAfter = undefined;
        await server.start();
        const there = () => server.store.list(KIND, "").map((object) => inWords(parseNode(object) as KubeNode));
        const known = () => [...nodes.objects.values()].map(inWords).sort();
        await vi.waitFor(
          () => {
            clock.advance(Math.min(clock.nextInMs ?? 0, 60_000));
            expect([nodes.state, nodes.problem, known()]).toEqual(["synced", undefined, there().sort()]);
          },
          { timeout: 5000, interval: 2 },
        );
        expect(mistakes).toEqual([]);
        expect([...told.values()].map(inWords).sort()).toEqual(known());
      } finally {
        await nodes.stop();
        http.close();
        await server.close();
      }
    }),
    { numRuns: 150, interruptAfterTimeLimit: 60_000 },
  );
}, 120_000);
