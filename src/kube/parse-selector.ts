// SPDX-License-Identifier: Apache-2.0
//
// meta/v1 LabelSelector, as strict as the API server is with it. Pure.
import type { LabelSelector, Requirement } from "./selector.ts";
import { type Reading, show, strictFields, strictList, strictText, Unusable } from "./strict-fields.ts";

const OPERATORS: readonly string[] = ["In", "NotIn", "Exists", "DoesNotExist"] satisfies Requirement["operator"][];
/** Of a label's value, and of the name behind the prefix of its key (apimachinery's validation of both). */
const NAME = /^[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?$/;
/** RFC 1123 subdomain. */
const PREFIX = /^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$/;
const PREFIX_MAX = 253;

/**
 * @param at where it is, for people
 * @throws Unusable where the API server would reject it
 */
export function parseSelector(raw: unknown, at: string, reading: Reading): LabelSelector {
  const { matchLabels, matchExpressions } = strictFields(raw, at, ["matchLabels", "matchExpressions"]);
  const selector: Requirement[] = [];
  for (const [key, value] of Object.entries(strictFields(matchLabels ?? {}, `${at}.matchLabels`))) {
    reading.take(at);
    selector.push({ key: labelKey(key, at), operator: "In", values: [labelValue(value, at)] });
  }
  for (const raw of strictList(matchExpressions ?? [], `${at}.matchExpressions`)) {
    reading.take(at);
    selector.push(requirement(raw, at, reading));
  }
  return selector;
}

function requirement(raw: unknown, at: string, reading: Reading): Requirement {
  const fields = strictFields(raw, `${at}.matchExpressions`, ["key", "operator", "values"]);
  const key = labelKey(fields["key"], at);
  const operator = strictText(fields["operator"], `${at}.matchExpressions.operator`) as Requirement["operator"];
  if (!OPERATORS.includes(operator)) throw new Unusable(`${at} has the operator ${show(operator)}, which isn't known`);
  const values = strictList(fields["values"] ?? [], `${at}.matchExpressions.values`).map((value) => {
    reading.take(at);
    return labelValue(value, at);
  });
  const wantsValues = operator === "In" || operator === "NotIn";
  if (wantsValues !== values.length > 0) {
    throw new Unusable(`${at} has the operator ${operator} with ${values.length} values`);
  }
  return { key, operator, values };
}

function labelKey(raw: unknown, at: string): string {
  const key = strictText(raw, `${at}: a label's key`);
  const slash = key.indexOf("/");
  const prefix = key.slice(0, Math.max(slash, 0));
  const fits = NAME.test(key.slice(slash + 1)) && (slash < 0 || (prefix.length <= PREFIX_MAX && PREFIX.test(prefix)));
  if (!fits) throw new Unusable(`${at} has the key ${show(key)}, which no label can have`);
  return key;
}

function labelValue(raw: unknown, at: string): string {
  const value = strictText(raw, `${at}: a label's value`);
  if (value !== "" && !NAME.test(value))
    throw new Unusable(`${at} has the value ${show(value)}, which no label can have`);
  return value;
}
