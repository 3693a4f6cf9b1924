// SPDX-License-Identifier: Apache-2.0
//
// Everything that can be done to a node, as fast-check draws it: which command, how often, with what.

import fc from "fast-check";
import {
  addAgainCommand,
  addCommand,
  addCutOffCommand,
  addDuringStartCommand,
  addKilledCommand,
  addMissingCommand,
  addTogetherCommand,
} from "./adds.ts";
import type { Command } from "./command.ts";
import {
  type DelNetns,
  delCommand,
  delCutOffCommand,
  delKilledCommand,
  delTogetherCommand,
  delUnknownCommand,
} from "./dels.ts";
import {
  newPodCommand,
  removeLinkCommand,
  removePartCommand,
  retireCommand,
  startDaemonCommand,
  stopDaemonCommand,
  vanishCommand,
} from "./events.ts";
import type { Removable, Wish } from "./model.ts";
import { checkCommand, gcCommand, statusCommand } from "./other-verbs.ts";
import type { Target } from "./target.ts";

/** More than there are addresses. */
const PODS = 8;
/** A plugin is killed at most this long after it was started: a little after the usual end. */
const KILL_WITHIN_MS = 40;

/** @param subnets what the node's addresses begin with: "10.77.1.", "fd00:77:1::" */
export function commandArbitraries(subnets: Readonly<Record<4 | 6, string>>): fc.Arbitrary<Command>[] {
  const n = fc.nat({ max: 30 });
  const podIndex = fc.nat({ max: PODS - 1 });
  const target: fc.Arbitrary<Target> = fc.record({
    pod: podIndex,
    container: fc.oneof({ arbitrary: fc.constant(0), weight: 5 }, { arbitrary: fc.constant(1), weight: 1 }),
    ifname: fc.oneof({ arbitrary: fc.constant("eth0"), weight: 6 }, { arbitrary: fc.constant("net1"), weight: 1 }),
  });
  const port = fc.record(
    {
      hostPort: fc.constantFrom(8080, 8081),
      containerPort: fc.constantFrom(80, 443),
      protocol: fc.constantFrom("tcp" as const, "udp" as const),
      hostIP: fc.constantFrom("192.0.2.1", "2001:db8::1"),
    },
    { requiredKeys: ["hostPort", "containerPort", "protocol"] },
  );
  const ip4 = fc.integer({ min: 1, max: 7 }).map((last) => `${subnets[4]}${last}`);
  const ip6 = fc.nat({ max: 7 }).map((last) => `${subnets[6]}${last === 0 ? "" : last}`);
  const rarely = <T>(arbitrary: fc.Arbitrary<T[]>) =>
    fc.oneof({ arbitrary: fc.constant<T[]>([]), weight: 3 }, { arbitrary, weight: 1 });
  const wish: fc.Arbitrary<Wish> = fc.record({
    portMappings: rarely(
      fc.uniqueArray(port, {
        minLength: 1,
        maxLength: 2,
        selector: ({ hostPort, protocol }) => `${hostPort}${protocol}`,
      }),
    ),
    ips: rarely(
      fc.oneof(
        ip4.map((ip) => [ip]),
        ip6.map((ip) => [ip]),
        fc.tuple(ip4, ip6),
      ),
    ),
  });
  const moment = fc.integer({ min: 1, max: KILL_WITHIN_MS });
  const netns = fc.constantFrom<DelNetns>("its own", "its own", "none", "another path", "the node's");
  const part = fc.constantFrom<Removable>("host route 4", "host route 6", "pod address 6");
  const add = fc.tuple(target, wish).map((args) => addCommand(...args));
  const addAgain = fc.tuple(n, fc.option(wish, { nil: undefined })).map((args) => addAgainCommand(...args));
  const addTogether = fc.uniqueArray(podIndex, { minLength: 2, maxLength: PODS }).map(addTogetherCommand);
  const addDuringStart = fc.tuple(target, wish).map((args) => addDuringStartCommand(...args));
  const del = fc.tuple(n, netns, fc.boolean(), fc.boolean()).map((args) => delCommand(...args));
  const check = n.map(checkCommand);
  const start = fc.constant(null).map(startDaemonCommand);
  const status = fc.constant(null).map(statusCommand);
  const retire = fc.constant(null).map(retireCommand);
  const mostly = fc.constantFrom(true, true, true, false);
  // As often as they are named; the daemon is up most of the time.
  return [
    ...[add, add, add, add, add, add, add, add, addAgain, addAgain],
    fc.tuple(target, wish, moment).map((args) => addKilledCommand(...args)),
    fc.tuple(target, wish, moment).map((args) => addKilledCommand(...args)),
    fc.tuple(target, wish, moment).map((args) => addCutOffCommand(...args)),
    target.map(addMissingCommand),
    ...[addTogether, addTogether],
    ...[del, del],
    fc.uniqueArray(n, { minLength: 2, maxLength: 6 }).map(delTogetherCommand),
    target.map(delUnknownCommand),
    fc.tuple(n, moment).map((args) => delKilledCommand(...args)),
    fc.tuple(n, moment).map((args) => delCutOffCommand(...args)),
    ...[check, check, check],
    fc.array(mostly, { minLength: 4, maxLength: 16 }).map(gcCommand),
    ...[status, status],
    fc.constantFrom("SIGTERM" as const, "SIGKILL" as const).map(stopDaemonCommand),
    ...[start, start, start, start, start, start, addDuringStart, addDuringStart, addDuringStart],
    ...[podIndex.map(vanishCommand), podIndex.map(newPodCommand), podIndex.map(newPodCommand)],
    ...[retire, retire],
    n.map(removeLinkCommand),
    fc.tuple(n, part).map((args) => removePartCommand(...args)),
  ];
}
