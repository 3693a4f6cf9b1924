// SPDX-License-Identifier: Apache-2.0
//
// iproute2's `ip`, the one tool that the lab needs. The lab uses it and not our own netlink, so that a proof of the
// network does not rest on the code it proves.
import { spawn } from "node:child_process";
import { LabError } from "./errors.ts";
import { lastLines } from "./lines.ts";

/**
 * Runs `ip` and returns what it printed. With `batch`, one command a line goes to `ip -batch -`, which stops at the first
 * that fails.
 * @throws LabError LAB_COMMAND_FAILED with ip's own words.
 */
export async function ip(args: readonly string[], batch?: readonly string[]): Promise<string> {
  const words = batch === undefined ? args : [...args, "-batch", "-"];
  const input = batch === undefined ? "" : `${batch.join("\n")}\n`;
  const { code, stdout, stderr } = await runIp(words, input);
  if (code === 0) return stdout;
  const said = lastLines(stderr, 3).join("; ") || `exit code ${code}`;
  // ip says "Command failed -:3" of the third line of its stdin.
  const line = batch?.[Number(/^Command failed -:(\d+)$/m.exec(stderr)?.[1] ?? 0) - 1];
  throw new LabError(
    "LAB_COMMAND_FAILED",
    `ip ${words.join(" ")}: ${said}`,
    line === undefined ? {} : { detail: [line] },
  );
}

function runIp(words: readonly string[], input: string): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve, reject) => {
    // In a process group of its own: Ctrl-C in the terminal is for the lab, which then removes what it made.
    const child = spawn("ip", words, { detached: true, stdio: ["pipe", "pipe", "pipe"] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout.on("data", (chunk: Buffer) => stdout.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => stderr.push(chunk));
    child.on("error", (cause: NodeJS.ErrnoException) => {
      const message =
        cause.code === "ENOENT" ? "the lab needs ip (Debian: apt-get install iproute2)" : `ip: ${cause.message}`;
      reject(new LabError("LAB_COMMAND_FAILED", message, { cause }));
    });
    child.on("close", (code, signal) => {
      const text = Buffer.concat(stderr).toString("utf8");
      resolve({
        code: code ?? 1,
        stdout: Buffer.concat(stdout).toString("utf8"),
        stderr: signal === null ? text : `${text}\nended by ${signal}`,
      });
    });
    // It may fail before it has read everything; its exit code tells.
    child.stdin.on("error", () => {});
    child.stdin.end(input);
  });
}
