// SPDX-License-Identifier: Apache-2.0
import type { KubeRequest, KubeWire, OnData } from "../kube/http.ts";

/** The way to the API server of one kind of objects, with how often it was used. */
export class CountedWire implements KubeWire {
  lists = 0;
  watches = 0;
  /** Lists and watches that failed. */
  errors = 0;
  readonly #wire: KubeWire;

  constructor(wire: KubeWire) {
    this.#wire = wire;
  }

  json(request: KubeRequest): Promise<unknown> {
    return this.#wire.json(request);
  }

  async stream(request: KubeRequest, onData: OnData): Promise<void> {
    const { query = {} } = request;
    if (query["watch"] !== undefined) this.watches++;
    // Further pages are of the same list.
    else if (query["continue"] === undefined) this.lists++;
    try {
      await this.#wire.stream(request, onData);
    } catch (error) {
      this.errors++;
      throw error;
    }
  }
}
