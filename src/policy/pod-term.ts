// SPDX-License-Identifier: Apache-2.0
//
// Which pods a policy means. Two policies that mean the same say it in the same words. Pure.
import type { LabelSelector } from "../kube/selector.ts";

/** Which namespaces: one, those with certain labels, or all, known or not. */
export type Scope =
  | { readonly kind: "namespace"; readonly name: string }
  | { readonly kind: "namespaces"; readonly selector: LabelSelector }
  | { readonly kind: "everywhere" };

export interface PodTerm {
  readonly scope: Scope;
  readonly pods: LabelSelector;
  /** Equal terms have equal keys. */
  readonly key: string;
}

export function podTerm(scope: Scope, pods: LabelSelector): PodTerm {
  return { scope, pods, key: `${scopeKey(scope)} ${selectorText(pods)}` };
}

/** Every pod of the cluster. */
export const ANY_POD = podTerm({ kind: "everywhere" }, []);

export function scopeKey(scope: Scope): string {
  switch (scope.kind) {
    case "namespace":
      return `in ${scope.name}`;
    case "namespaces":
      return `of ${selectorText(scope.selector)}`;
    case "everywhere":
      return "everywhere";
  }
}

/** Neither the order of requirements nor that of values matters. */
function selectorText(selector: LabelSelector): string {
  const texts = selector.map(({ key, operator, values }) =>
    JSON.stringify([key, operator, ...[...new Set(values)].sort()]),
  );
  return [...new Set(texts)].sort().join(" ");
}
