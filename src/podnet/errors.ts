// SPDX-License-Identifier: Apache-2.0

/** A pod network that can't be. The message is for people; edges map the code. */
export class PodNetworkError extends Error {
  override readonly name = "PodNetworkError";
  readonly code: /** A route that the addresses or the data path don't allow. */
    | "PODNET_ROUTE"
    /** A file that is no network namespace. */
    | "PODNET_NETNS";
  constructor(code: PodNetworkError["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
