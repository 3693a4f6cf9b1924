// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { RpcError } from "../grpc/client.ts";
import { Status, type StatusName } from "../grpc/status.ts";
import { NetlinkError } from "../netlink/message.ts";
import { SysError } from "../sys/sys.ts";
import { CNI_CODES, CniError, errorDocument, toCniError } from "./errors.ts";

const rpc = (name: StatusName) => new RpcError(`RPC_${name}`, Status[name], `the daemon says ${name}`);

test.for<[what: string, thrown: unknown, code: number, message: string, details: string]>([
  ...(["INVALID_ARGUMENT", "OUT_OF_RANGE", "FAILED_PRECONDITION"] as const).map(
    (name): [string, unknown, number, string, string] => [
      `the refusal ${name}`,
      rpc(name),
      7,
      "the daemon refused the request",
      `the daemon says ${name}`,
    ],
  ),
  ...(
    [
      "RESOURCE_EXHAUSTED",
      "ALREADY_EXISTS",
      "UNAVAILABLE",
      "DEADLINE_EXCEEDED",
      "UNKNOWN",
      "INTERNAL",
      "NOT_FOUND",
      "UNIMPLEMENTED",
    ] as const
  ).map((name): [string, unknown, number, string, string] => [
    name,
    rpc(name),
    11,
    "the daemon could not be asked or could not do it",
    `the daemon says ${name}`,
  ]),
  [
    "no daemon",
    new RpcError("RPC_NO_DAEMON", 14, "nobody listens on /s"),
    11,
    "the daemon could not be asked or could not do it",
    "nobody listens on /s",
  ],
  [
    "a refusal of the kernel",
    NetlinkError.refused("set eth0 up", 1, "no"),
    100,
    "the kernel refused a step",
    "set eth0 up: EPERM (no)",
  ],
  ["a system call", new SysError("open", 2, "ENOENT", "/x"), 5, "a system call failed", "open /x: ENOENT"],
  ["a bug", new TypeError("x is not a function"), 999, "internal error", "TypeError: x is not a function"],
  ["anything else", "text", 999, "internal error", "text"],
])("%s has its code, and stays as the cause", ([, thrown, code, message, details]) => {
  const error = toCniError(thrown);
  expect(error).toBeInstanceOf(CniError);
  expect(error).toMatchObject({ code, message, details, cause: thrown });
});

test("an error that has its code already keeps it", () => {
  const error = new CniError(CNI_CODES.interfaceExists, "the interface already exists");
  expect(toCniError(error)).toBe(error);
});

test("the document has the caller's version, the code, and details where there are any", () => {
  const bare = new CniError(CNI_CODES.ioFailure, "short");
  expect(errorDocument(bare, "0.4.0")).toBe('{"cniVersion":"0.4.0","code":5,"msg":"short"}');
  const full = new CniError(CNI_CODES.tryAgainLater, "short", 'long "and" quoted');
  expect(errorDocument(full, "1.0.0")).toBe(
    '{"cniVersion":"1.0.0","code":11,"msg":"short","details":"long \\"and\\" quoted"}',
  );
});

test("codes below 100 are the spec's, and the plugin's own begin there", () => {
  const { kernelRefused, interfaceExists, differs, internal, ...specified } = CNI_CODES;
  for (const code of Object.values(specified)) expect(code).toBeLessThan(100);
  for (const code of [kernelRefused, interfaceExists, differs, internal]) expect(code).toBeGreaterThanOrEqual(100);
});
