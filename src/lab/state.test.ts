// SPDX-License-Identifier: Apache-2.0
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { expect, onTestFinished, test } from "vitest";
import { lockLab } from "./state.ts";

function uniqueName(): string {
  return `t-${randomBytes(4).toString("hex")}`;
}

test("a lab has one lock, and whoever wants it too is told who holds it", async () => {
  const name = uniqueName();
  const lock = await lockLab(name);
  await expect(lockLab(name)).rejects.toMatchObject({
    code: "LAB_IN_USE",
    message: `lab ${name} is in use by process ${process.pid}; --name gives this one another name`,
  });
  await lock.release();
  await (await lockLab(name)).release();
});

test("labs of different names do not lock each other out", async () => {
  const locks = await Promise.all([lockLab(uniqueName()), lockLab(uniqueName())]);
  await Promise.all(locks.map((lock) => lock.release()));
});

test("the lock of a process that was killed is free", async () => {
  const name = uniqueName();
  const source = `
    import { lockLab } from ${JSON.stringify(new URL("./state.ts", import.meta.url).href)};
    await lockLab(${JSON.stringify(name)});
    process.stdout.write("locked");`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  await once(child.stdout, "data");
  await expect(lockLab(name)).rejects.toMatchObject({ message: expect.stringContaining(`process ${child.pid};`) });
  child.kill("SIGKILL");
  await once(child, "close");
  await (await lockLab(name)).release();
});
