// SPDX-License-Identifier: Apache-2.0
import { describe, expect, test } from "vitest";
import { parseLabArgs } from "./options.ts";

describe("the command line of the lab", () => {
  test("without options is a dual-stack lab of three nodes with four pods each", () => {
    const up = {
      kind: "up",
      name: "lab",
      nodes: 3,
      pods: 4,
      family: "dual",
      underlay: "l2",
      keep: false,
      json: false,
    };
    expect(parseLabArgs([])).toEqual(up);
    expect(parseLabArgs(["up"])).toEqual(up);
  });

  test("takes values behind a space or an equals sign", () => {
    const command = {
      kind: "up",
      name: "a-1",
      nodes: 2,
      pods: 7,
      family: "v6",
      underlay: "bgp",
      keep: true,
      json: true,
    };
    const words = "--nodes 2 --pods=7 --family v6 --topology bgp --keep --json --name=a-1";
    expect(parseLabArgs(words.split(" "))).toEqual(command);
  });

  test("proves and removes a kept lab by name", () => {
    expect(parseLabArgs(["prove", "--json"])).toEqual({ kind: "prove", name: "lab", json: true });
    expect(parseLabArgs(["down", "--name", "x"])).toEqual({ kind: "down", name: "x" });
  });

  test("asks for help anywhere", () => {
    expect(parseLabArgs(["--help"])).toEqual({ kind: "help" });
    expect(parseLabArgs(["down", "-h"])).toEqual({ kind: "help" });
  });

  test.each([
    [["--nodes", "0"], '--nodes is a number from 1 to 50, not "0"'],
    [["--nodes", "51"], '--nodes is a number from 1 to 50, not "51"'],
    [["--nodes", "3x"], '--nodes is a number from 1 to 50, not "3x"'],
    [["--nodes", "-1"], '--nodes is a number from 1 to 50, not "-1"'],
    [["--nodes", "1e1"], '--nodes is a number from 1 to 50, not "1e1"'],
    [["--pods="], "--pods needs a value"],
    [["--pods"], "--pods needs a value"],
    [["--nodes", "50", "--pods", "6"], "--nodes 50 and --pods 6 make 300 pods; a lab has at most 250"],
    [["--family", "v5"], '--family is v4, v6 or dual, not "v5"'],
    [["--topology", "L3"], '--topology is l2, routed or bgp, not "L3"'],
    [["--name", "../x"], '--name is 24 or fewer lower-case letters, digits and inner hyphens, not "../x"'],
    [["--name", "-"], '--name is 24 or fewer lower-case letters, digits and inner hyphens, not "-"'],
    [["--keep=yes"], "--keep takes no value"],
    [["--json", "--json"], "--json is given twice"],
    [["--colour"], 'lab up has no option "--colour"'],
    [["down", "--json"], 'lab down has no option "--json"'],
    [["prove", "--nodes", "3"], 'lab prove has no option "--nodes"'],
    [["destroy"], '"destroy" is not a lab command; there are up, prove and down'],
    [["up", "down"], 'lab up has no option "down"'],
  ])("refuses %j, naming option and value", (args, message) => {
    expect(() => parseLabArgs(args)).toThrow(expect.objectContaining({ code: "LAB_USAGE", message }));
  });
});
