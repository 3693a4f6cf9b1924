// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { findingLines, findingsDocument } from "./findings.ts";

const attachment = { network: "flatnet", containerId: "abc", ifname: "eth0" };
const findings = [
  { kind: "route-missing", attachment, hostIfname: "fla", address: "10.0.0.1", message: "no route leads to 10.0.0.1" },
  { kind: "link-unknown", attachment: undefined, hostIfname: "flb", address: "", message: "flb is nobody's" },
];

test("when all agrees, what was compared is told", () => {
  expect(findingLines({ findings: [], attachments: 2, links: 1 })).toEqual(["2 attachments and 1 host link agree."]);
});

test("every finding is a line, and how many there are the last one", () => {
  expect(findingLines({ findings, attachments: 1, links: 2 })).toEqual([
    "route-missing  no route leads to 10.0.0.1",
    "link-unknown   flb is nobody's",
    "",
    "2 differences between 1 attachment and 2 host links.",
  ]);
});

test("for programs what a finding is not about is null", () => {
  expect(findingsDocument({ findings, attachments: 1, links: 2 })).toMatchObject({
    version: 1,
    attachments: 1,
    links: 2,
    findings: [
      { kind: "route-missing", attachment, hostIfname: "fla", address: "10.0.0.1" },
      { kind: "link-unknown", attachment: null, hostIfname: "flb", address: null },
    ],
  });
});
