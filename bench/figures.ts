// SPDX-License-Identifier: Apache-2.0
//
// Figures as people read them. Pure.
import type { Budget, Row } from "./samples.ts";

/** A ratio: two decimals, but one digit that means something of what would be none of then. */
export function times(value: number): string {
  if (!Number.isFinite(value)) return "–";
  return value < 0.01 && value > 0 ? value.toPrecision(1) : value.toFixed(2);
}

/** Three digits that mean something. */
export function number(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString("en");
  return value.toPrecision(value >= 10 ? 3 : 2);
}

export function budgetText(budget: Budget, unit: Row["unit"]): string {
  if ("atMost" in budget) return `≤ ${budget.atMost} ×`;
  if ("atLeast" in budget) return `≥ ${budget.atLeast} ×`;
  const [sign, bound] = "oursAtMost" in budget ? ["≤", budget.oursAtMost] : ["≥", budget.oursAtLeast];
  return `${sign} ${bound.toLocaleString("en")} ${unit}`;
}
