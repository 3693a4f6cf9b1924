// SPDX-License-Identifier: Apache-2.0
import { status } from "@grpc/grpc-js";
import { expect, test } from "vitest";
import { IpamError, type IpamErrorCode, quote } from "./errors.ts";
import { toStatus } from "./rpc-errors.ts";

test.for<[IpamErrorCode, status]>([
  ["IPAM_INVALID", status.INVALID_ARGUMENT],
  ["IPAM_EXHAUSTED", status.RESOURCE_EXHAUSTED],
  ["IPAM_OUT_OF_RANGE", status.OUT_OF_RANGE],
  ["IPAM_TAKEN", status.ALREADY_EXISTS],
  ["IPAM_PRECONDITION", status.FAILED_PRECONDITION],
  ["IPAM_UNKNOWN", status.NOT_FOUND],
  ["IPAM_EFFECT", status.INTERNAL],
  ["IPAM_STORE", status.INTERNAL],
  ["IPAM_CLOSED", status.UNAVAILABLE],
])("%s is gRPC status %i with its message", ([code, expected]) => {
  expect(toStatus(new IpamError(code, "because"))).toEqual({ code: expected, details: "because" });
});

test("an error that is a bug tells nothing but where to look", () => {
  for (const bug of [new TypeError("x is undefined"), "text", undefined]) {
    expect(toStatus(bug)).toEqual({ code: status.INTERNAL, details: "the daemon failed; its log says more" });
  }
});

test("a long message is cut, and stays text that can be percent-encoded", () => {
  const { details } = toStatus(new IpamError("IPAM_STORE", `${"x".repeat(999)}😀`));
  expect(details).toHaveLength(1000);
  expect(() => encodeURI(details)).not.toThrow();
  expect(() => encodeURI(quote(`${"x".repeat(79)}😀`))).not.toThrow();
});
