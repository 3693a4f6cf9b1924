// SPDX-License-Identifier: Apache-2.0
//
// When each step of the plugin was taken, for the case `anatomy`: the steps are those that the fault build could end at. They are
// written to the file FLATNET_MARKS as JSON, in milliseconds since the module's start.
import type { FaultPoint } from "../../src/net/fault.ts";
import { sys } from "../../src/sys/quickjs.ts";
import { O_CREAT, O_TRUNC, O_WRONLY } from "../../src/sys/sys.ts";

const { start } = host;
let began = 0;
const marks: [step: string, atMs: number][] = [];

globalThis.faultPoint = (name: FaultPoint) => {
  marks.push([name, host.now() - began]);
  if (name !== "plugin.result-printed") return;
  const fd = sys.open(host.env["FLATNET_MARKS"] ?? "", O_WRONLY | O_CREAT | O_TRUNC, 0o600);
  sys.write(fd, new TextEncoder().encode(JSON.stringify(marks)));
  sys.close(fd);
};

host.start = () => {
  began = host.now();
  start?.();
};
