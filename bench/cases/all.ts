// SPDX-License-Identifier: Apache-2.0
//
// What is measured, in the order of the report: what runtimes wait for first.
import type { Case } from "../bench.ts";
import { anatomyCases } from "./anatomy.ts";
import { burstCases } from "./bursts.ts";
import { crowdCases } from "./crowd.ts";
import { daemonCases } from "./daemon.ts";
import { ipamCases } from "./ipam.ts";
import { kubernetesCases } from "./kubernetes.ts";
import { policyCases } from "./policy.ts";
import { routeCases } from "./routes.ts";
import { trafficCases } from "./traffic.ts";
import { verbCases } from "./verbs.ts";

export const CASES: readonly Case[] = [
  ...verbCases,
  ...anatomyCases,
  ...crowdCases,
  ...burstCases,
  ...ipamCases,
  ...routeCases,
  ...kubernetesCases,
  ...policyCases,
  ...trafficCases,
  ...daemonCases,
];
