// SPDX-License-Identifier: Apache-2.0
import fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { waitFor } from "../../test/helpers/daemon.ts";
import { renderConflist } from "../footprint/conflist.ts";
import { partOf } from "../footprint/place.ts";
import { FootprintRecord } from "../footprint/record.ts";
import { ConflistKeeper } from "./conflist-keeper.ts";
import type { Log } from "./log.ts";

const fail = (error: unknown) => {
  throw error;
};
const TEXT = renderConflist({ socket: "/s", journalDir: "/j", chained: [] });
const NAME = "10-flatnet.conflist";

let root: string;
let directory: string;
let path: string;
const closers: (() => Promise<void>)[] = [];
beforeEach(() => {
  root = fs.mkdtempSync(join(tmpdir(), "flatnet-conflist-"));
  directory = join(root, "cni", "net.d");
  path = join(directory, NAME);
});
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
  fs.rmSync(root, { recursive: true, force: true });
});

interface Line {
  readonly fields: Record<string, unknown>;
  readonly message: string;
}

async function start(more: { name?: string; text?: string; missing?: () => string | undefined } = {}) {
  const { name = NAME, text = TEXT, missing = () => undefined } = more;
  const lines: Line[] = [];
  const told: string[] = [];
  const tell = (fields: Record<string, unknown>, message: string) => lines.push({ fields, message });
  const keeper = ConflistKeeper.start({
    conflist: { directory, name, text },
    waitsFor: missing,
    record: await FootprintRecord.open(root, fail),
    log: { info: tell, warn: tell, error: tell } as unknown as Log,
    tell: (reason, message) => void told.push(`${reason}: ${message}`),
  });
  closers.push(() => keeper.stop());
  return { keeper, lines, told };
}

const content = (file = path) => (fs.existsSync(file) ? fs.readFileSync(file, "utf8") : undefined);
const inPlace = () => waitFor(() => content() === TEXT);

test("it is written in a directory that wasn't there, for root, with nothing beside it", async () => {
  const { keeper } = await start();
  await inPlace();
  await waitFor(() => keeper.conflistProblem === undefined);
  expect(fs.readdirSync(directory)).toEqual([NAME]);
  expect(fs.statSync(path).mode & 0o777).toBe(0o600);
  expect((await FootprintRecord.open(root, fail)).now).toMatchObject({
    files: [path],
    directories: [join(root, "cni"), directory],
  });
});

test("it waits for what pods can't be served without, and says for what", async () => {
  let missing: string | undefined = "the routes";
  const { keeper, lines } = await start({ missing: () => missing });
  await waitFor(() => keeper.conflistProblem === "the routes");
  expect(content()).toBeUndefined();
  expect(lines.filter(({ fields }) => fields["problem"] === "the routes")).toHaveLength(1);
  missing = undefined;
  await inPlace();
});

test("one of an earlier daemon stays until this one can serve, and is no reason to be unready", async () => {
  fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(path, TEXT);
  const { keeper } = await start({ missing: () => "the routes" });
  await waitFor(() => keeper.conflistProblem === undefined);
  expect(content()).toBe(TEXT);
});

test.for<[what: string, harm: () => void]>([
  ["removed", () => fs.rmSync(path)],
  ["changed", () => fs.writeFileSync(path, "{}")],
  ["cut short", () => fs.truncateSync(path, 10)],
  ["removed with its directory", () => fs.rmSync(directory, { recursive: true })],
])("it is put back when it is %s, again and again", async ([, harm]) => {
  await start();
  await inPlace();
  for (let times = 0; times < 2; times++) {
    harm();
    await inPlace();
  }
});

test("it stays when the daemon ends", async () => {
  const { keeper } = await start();
  await inPlace();
  await keeper.stop();
  expect(content()).toBe(TEXT);
});

test("another content takes its place without a moment in which there is none", async () => {
  const first = await start();
  await inPlace();
  await first.keeper.stop();
  let seen = 0;
  const watcher = fs.watch(directory, () => {
    seen++;
    expect(fs.existsSync(path)).toBe(true);
  });
  try {
    await start({ text: `${TEXT} ` });
    await waitFor(() => content() === `${TEXT} `);
    await waitFor(() => seen > 0);
  } finally {
    watcher.close();
  }
});

test("whoever replaces it or takes it away is told of, and nobody else is", async () => {
  fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(path, "{}");
  const { keeper, told } = await start();
  await inPlace();
  await waitFor(() => keeper.conflistProblem === undefined);
  expect(told).toEqual([]);
  fs.writeFileSync(path, "{}");
  await waitFor(() => told.length === 1);
  await inPlace();
  fs.rmSync(path);
  await waitFor(() => told.length === 2);
  await inPlace();
  expect(told).toEqual([
    `ConflistRestored: ${path} was replaced by something and is restored`,
    `ConflistRestored: ${path} was removed by something and is restored`,
  ]);
});

test("what a killed daemon had begun is removed", async () => {
  fs.mkdirSync(directory, { recursive: true });
  fs.writeFileSync(partOf(path), "half of");
  await start();
  await inPlace();
  expect(fs.readdirSync(directory)).toEqual([NAME]);
});

test("another network's list that comes first is named once, and left", async () => {
  fs.mkdirSync(directory, { recursive: true });
  const other = join(directory, "05-other.conflist");
  fs.writeFileSync(other, "{}");
  const { lines } = await start();
  await waitFor(() => lines.some(({ fields }) => fields["rivals"] !== undefined));
  fs.writeFileSync(path, "{}");
  await inPlace();
  expect(lines.filter(({ fields }) => fields["rivals"] !== undefined)).toHaveLength(1);
  expect(fs.existsSync(other)).toBe(true);
});

test("with another name the one of before goes, once the new one is there", async () => {
  const first = await start();
  await inPlace();
  await first.keeper.stop();
  await start({ name: "05-flatnet.conflist" });
  await waitFor(() => content() === undefined);
  expect(content(join(directory, "05-flatnet.conflist"))).toBe(TEXT);
});

test("a place of before that somebody else has now is theirs", async () => {
  const first = await start();
  await inPlace();
  await first.keeper.stop();
  fs.writeFileSync(path, '{"plugins":[{"type":"bridge"}]}');
  const { keeper } = await start({ name: "05-flatnet.conflist" });
  await waitFor(() => keeper.conflistProblem === undefined);
  expect(content()).toBe('{"plugins":[{"type":"bridge"}]}');
});
