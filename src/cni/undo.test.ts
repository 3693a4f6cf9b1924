// SPDX-License-Identifier: Apache-2.0
import { expect, test } from "vitest";
import { CniError } from "./errors.ts";
import { UndoStack } from "./undo.ts";

/** A kernel of things that stand on each other: what is under something can't be taken. */
function tower() {
  const standing: string[] = [];
  const undo = new UndoStack();
  return {
    standing,
    undo,
    build: (thing: string, fails = false) => {
      standing.push(thing);
      undo.push(`take ${thing}`, () => {
        if (standing.at(-1) !== thing) throw new Error(`${thing} is not on top`);
        standing.pop();
        if (fails) throw new Error(`${thing} fell`);
      });
    },
  };
}

test("what was made last is taken back first", () => {
  const { build, undo, standing } = tower();
  for (const thing of ["address", "link", "route"]) build(thing);
  expect(undo.run()).toEqual([]);
  expect(standing).toEqual([]);
});

test("a step that fails stops no other, and is told with its name", () => {
  const { build, undo, standing } = tower();
  build("address", true);
  build("link");
  build("route", true);
  expect(undo.run()).toEqual(["take route: route fell", "take address: address fell"]);
  expect(standing).toEqual([]);
});

test("what is no Error is told as well", () => {
  const undo = new UndoStack();
  undo.push("try", () => {
    throw "text";
  });
  expect(undo.run()).toEqual(["try: text"]);
});

test("nothing is taken back twice", () => {
  const { build, undo } = tower();
  build("link");
  expect(undo.run()).toEqual([]);
  expect(undo.run()).toEqual([]);
});

test("what was made stays when all goes well", () => {
  const { build, undo, standing } = tower();
  const answer = undo.whileTrying(() => {
    build("address");
    return 7;
  });
  expect({ answer, standing }).toEqual({ answer: 7, standing: ["address"] });
});

test("when a step fails all is taken back, and its error is the one that is told", () => {
  const { build, undo, standing } = tower();
  const error = new CniError(101, "the interface already exists", "eth0");
  const failing = () => {
    build("address");
    build("link");
    throw error;
  };
  expect(() => undo.whileTrying(failing)).toThrow(error);
  expect({ standing, details: error.details }).toEqual({ standing: [], details: "eth0" });
});

test("what could not be taken back is told behind what went wrong", () => {
  const { build, undo, standing } = tower();
  const failing = () => {
    build("address", true);
    build("link");
    throw new TypeError("x is not a function");
  };
  expect(() => undo.whileTrying(failing)).toThrow(
    expect.objectContaining({
      code: 999,
      details: "TypeError: x is not a function; and could not undo: take address: address fell",
    }),
  );
  expect(standing).toEqual([]);
});
