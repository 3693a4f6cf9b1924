// SPDX-License-Identifier: Apache-2.0
//
// core/v1 Namespace. Pure; never throws.
import type { KubeNamespace } from "./objects.ts";
import { fieldsOf, textOf, wordsOf } from "./raw.ts";

/** @returns undefined for what has no name and so is no namespace */
export function parseNamespace(raw: unknown): KubeNamespace | undefined {
  const { name, labels } = fieldsOf(fieldsOf(raw)["metadata"]);
  return textOf(name) === "" ? undefined : { name: textOf(name), labels: wordsOf(labels) };
}
