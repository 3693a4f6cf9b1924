// SPDX-License-Identifier: Apache-2.0
import type { Attachment } from "../net/names.ts";
import type { Adoption } from "./adoption.ts";
import type { PodName } from "./records.ts";

/** A wish to take over, already validated. */
export interface AdoptionRequest {
  readonly attachment: Attachment;
  readonly pod: PodName | undefined;
  /** "" when it isn't known. */
  readonly netns: string;
  /** Canonical text, at most one a family, IPv4 first, never empty. */
  readonly addresses: readonly string[];
  readonly adoption: Adoption;
}
