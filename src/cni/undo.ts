// SPDX-License-Identifier: Apache-2.0

/** What to take back when a later step fails: each step pushes its own undo, and they run last first. */
export class UndoStack {
  private readonly steps: { what: string; undo: () => void }[] = [];

  push(what: string, undo: () => void): void {
    this.steps.push({ what, undo });
  }

  /** Runs every step, whatever fails, and returns what did. The caller reports the error that made it necessary. */
  run(): string[] {
    const failures: string[] = [];
    for (let step = this.steps.pop(); step !== undefined; step = this.steps.pop()) {
      try {
        step.undo();
      } catch (error) {
        failures.push(`${step.what}: ${error instanceof Error ? error.message : String(error)}`);
      }
    }
    return failures;
  }
}
