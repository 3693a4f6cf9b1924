// SPDX-License-Identifier: Apache-2.0

import { GROUPS, type Rule } from "../rule.ts";
import { abuseRules } from "./abuse.ts";
import { addRules } from "./add.ts";
import { addResultRules } from "./add-result.ts";
import { checkRules } from "./check.ts";
import { concurrencyRules } from "./concurrency.ts";
import { delRules } from "./del.ts";
import { delegationRules } from "./delegation.ts";
import { gcRules } from "./gc.ts";
import { idempotencyRules } from "./idempotency.ts";
import { leakRules } from "./leaks.ts";
import { refusalRules } from "./refusals.ts";
import { statusRules } from "./status.ts";
import { versionRules } from "./version.ts";

/** All rules, group after group. */
export const RULES: readonly Rule[] = [
  ...versionRules,
  ...addRules,
  ...addResultRules,
  ...delRules,
  ...checkRules,
  ...gcRules,
  ...statusRules,
  ...refusalRules,
  ...abuseRules,
  ...idempotencyRules,
  ...concurrencyRules,
  ...leakRules,
  ...delegationRules,
].sort((a, b) => GROUPS.indexOf(a.group) - GROUPS.indexOf(b.group));
