// SPDX-License-Identifier: Apache-2.0
//
// Label selectors (meta/v1 LabelSelector), parsed: what must be true of an object's labels, all of it.
import type { Words } from "./objects.ts";

/** One requirement. `matchLabels` are of In with one value. */
export interface Requirement {
  readonly key: string;
  readonly operator: "In" | "NotIn" | "Exists" | "DoesNotExist";
  /** At least one for In and NotIn, none for the others. */
  readonly values: readonly string[];
}

/** All requirements must be met; none at all selects everything. */
export type LabelSelector = readonly Requirement[];

/** Whether an object with these labels is selected. NotIn selects objects without the key too, as the API does. */
export function selects(selector: LabelSelector, labels: Words): boolean {
  return selector.every((requirement) =>
    meets(requirement, Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined),
  );
}

/** @param value undefined where the object hasn't the key */
function meets({ operator, values }: Requirement, value: string | undefined): boolean {
  switch (operator) {
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
  }
}
