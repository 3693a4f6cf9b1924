// SPDX-License-Identifier: Apache-2.0
import { toCniError } from "./errors.ts";

/** What to take back when a later step fails: each step pushes its own undo, and they run last first. */
export class UndoStack {
  readonly #steps: { what: string; undo: () => void }[] = [];

  push(what: string, undo: () => void): void {
    this.#steps.push({ what, undo });
  }

  /**
   * Runs `work`. If it throws, everything pushed is undone, and the error it threw is thrown on as a CniError, with what
   * could not be undone in its details.
   */
  whileTrying<T>(work: () => T): T {
    try {
      return work();
    } catch (thrown) {
      const failures = this.run();
      const error = toCniError(thrown);
      // The runtime still sends a DEL after a failed ADD (CNI spec, section 3), which finds the rest by its name.
      if (failures.length > 0) error.details = `${error.details}; and could not undo: ${failures.join("; ")}`;
      throw error;
    }
  }

  /** Runs every step, whatever fails, and returns what did. */
  run(): string[] {
    const failures: string[] = [];
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      try {
        step.undo();
        globalThis.faultPoint?.("plugin.step-undone");
      } catch (error) {
        failures.push(`${step.what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    return failures;
  }
}
