// SPDX-License-Identifier: Apache-2.0
import fc from "fast-check";
import { expect, test } from "vitest";
import { attachmentOf, type Environment, isIdentifier, parseCmdArgs, parseTraceparent } from "./args.ts";
import { CniError } from "./errors.ts";

const GOOD: Environment = { CNI_CONTAINERID: "c0ffee", CNI_IFNAME: "eth0", CNI_NETNS: "/run/netns/pod" };

/** The details of the refusal, which has code 4 always. */
function refusal(env: Environment, needsNetns = true): string {
  try {
    parseCmdArgs({ ...GOOD, ...env }, needsNetns);
  } catch (error) {
    expect(error).toBeInstanceOf(CniError);
    expect(error).toMatchObject({ code: 4, message: "invalid environment" });
    return (error as CniError).details;
  }
  throw new Error("it was accepted");
}

test("a call's parameters are read", () => {
  const env = {
    ...GOOD,
    CNI_ARGS:
      "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=x;K8S_POD_UID=7f",
  };
  expect(parseCmdArgs(env, true)).toEqual({
    containerId: "c0ffee",
    ifname: "eth0",
    netns: "/run/netns/pod",
    netnsOverride: false,
    pod: { namespace: "default", name: "web-0", uid: "7f" },
  });
});

test("outside Kubernetes there is no pod", () => {
  expect(parseCmdArgs(GOOD, true).pod).toBeUndefined();
  expect(parseCmdArgs({ ...GOOD, CNI_ARGS: "FOO=a=b" }, true).pod).toBeUndefined();
});

test("DEL needs no network namespace, ADD does", () => {
  for (const netns of ["", undefined]) {
    expect(parseCmdArgs({ ...GOOD, CNI_NETNS: netns }, false).netns).toBe("");
    expect(refusal({ CNI_NETNS: netns })).toBe("CNI_NETNS is missing");
  }
});

test.for<[value: string | undefined, override: boolean]>([
  ["1", true],
  ["true", true],
  ["TRUE", true],
  ["0", false],
  ["no", false],
  ["", false],
  [undefined, false],
])("CNI_NETNS_OVERRIDE=%s means %s", ([value, override]) => {
  expect(parseCmdArgs({ ...GOOD, CNI_NETNS_OVERRIDE: value }, true).netnsOverride).toBe(override);
});

test.for<[variable: string, value: string | undefined, details: string]>([
  ["CNI_CONTAINERID", undefined, "CNI_CONTAINERID is missing"],
  ["CNI_CONTAINERID", "", "CNI_CONTAINERID is missing"],
  ["CNI_CONTAINERID", "a/b", 'CNI_CONTAINERID="a/b" is not letters, digits, "_", "." and "-", up to 253'],
  ["CNI_CONTAINERID", "-a", 'CNI_CONTAINERID="-a" is not letters'],
  ["CNI_CONTAINERID", "ä", 'CNI_CONTAINERID="ä" is not letters'],
  ["CNI_CONTAINERID", "a b", 'CNI_CONTAINERID="a b" is not letters'],
  ["CNI_CONTAINERID", "a\n", 'CNI_CONTAINERID="a\\n" is not letters'],
  ["CNI_CONTAINERID", "a".repeat(254), "is not letters"],
  ["CNI_IFNAME", undefined, "CNI_IFNAME is missing"],
  ["CNI_IFNAME", "", "CNI_IFNAME is missing"],
  ["CNI_IFNAME", "0123456789abcdef", 'CNI_IFNAME="0123456789abcdef" is longer than 15 characters'],
  ["CNI_IFNAME", ".", 'CNI_IFNAME="." is not a name'],
  ["CNI_IFNAME", "..", 'CNI_IFNAME=".." is not a name'],
  ["CNI_IFNAME", "a/b", 'CNI_IFNAME="a/b" has'],
  ["CNI_IFNAME", "a:b", 'CNI_IFNAME="a:b" has'],
  ["CNI_IFNAME", "a b", 'CNI_IFNAME="a b" has'],
  ["CNI_IFNAME", "a\tb", 'CNI_IFNAME="a\\tb" has'],
  ["CNI_IFNAME", "ethä", 'CNI_IFNAME="ethä" has'],
  // The kernel would put a number there, and the interface had another name than the caller's.
  ["CNI_IFNAME", "eth%d", 'CNI_IFNAME="eth%d" has'],
  ["CNI_NETNS", "netns/pod", 'CNI_NETNS="netns/pod" is not an absolute path'],
  ["CNI_NETNS", "/a\0b", "is not an absolute path"],
  ["CNI_NETNS", `/${"a".repeat(4095)}`, "is not an absolute path"],
  ["CNI_ARGS", "K8S_POD_NAME", 'CNI_ARGS has "K8S_POD_NAME", which is not KEY=VALUE'],
  ["CNI_ARGS", "A=1;;B=2", 'CNI_ARGS has "", which is not KEY=VALUE'],
  ["CNI_ARGS", "=1", 'CNI_ARGS has "=1", which is not KEY=VALUE'],
])("%s=%j is refused with its value", ([variable, value, details]) => {
  expect(refusal({ [variable]: value })).toContain(details);
});

test("all that is wrong is said at once", () => {
  expect(
    refusal({ CNI_CONTAINERID: undefined, CNI_IFNAME: "a/b", CNI_NETNS: "x", CNI_ARGS: "y;z" }).split("; "),
  ).toEqual([
    "CNI_CONTAINERID is missing",
    'CNI_IFNAME="a/b" has "/", ":", "%", white space or a special character',
    'CNI_NETNS="x" is not an absolute path',
    'CNI_ARGS has "y", which is not KEY=VALUE',
    'CNI_ARGS has "z", which is not KEY=VALUE',
  ]);
});

test("a malformed namespace path is refused for DEL too", () => {
  expect(refusal({ CNI_NETNS: "x" }, false)).toBe('CNI_NETNS="x" is not an absolute path');
});

test("a value without end is cut in the error", () => {
  expect(refusal({ CNI_CONTAINERID: "/".repeat(100_000) }).length).toBeLessThan(500);
});

test("an identifier is what the spec's expression matches", () => {
  const near = fc.string({ unit: fc.constantFrom(..."aZ09_.-/ é\n"), maxLength: 6 });
  fc.assert(
    fc.property(near, (text) => {
      expect(isIdentifier(text)).toBe(/^[a-zA-Z0-9][a-zA-Z0-9_.-]*$/.test(text) && !text.endsWith("\n"));
    }),
  );
});

test("any environment is parameters that keep to the rules, or code 4", () => {
  const value = fc.option(fc.oneof(fc.string(), fc.constantFrom("eth0", "/x", "c0ffee", "A=1;B=2")), {
    nil: undefined,
  });
  const env = fc.record({ CNI_CONTAINERID: value, CNI_IFNAME: value, CNI_NETNS: value, CNI_ARGS: value });
  fc.assert(
    fc.property(env, fc.boolean(), (it, needsNetns) => {
      try {
        const args = parseCmdArgs(it, needsNetns);
        expect(args.containerId).toMatch(/^[a-zA-Z0-9][\w.-]*$/);
        expect(args.ifname).toMatch(/^[^/:\s%]{1,15}$/);
        expect(args.netns[0] ?? (needsNetns ? "" : "/")).toBe("/");
      } catch (error) {
        expect(error).toMatchObject({ name: "CniError", code: 4 });
      }
    }),
  );
});

test("the key of a call is its network, container and interface", () => {
  expect(attachmentOf("pods", parseCmdArgs(GOOD, true))).toEqual({
    network: "pods",
    containerId: "c0ffee",
    ifname: "eth0",
  });
});

const TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

test("a trace context is passed on as it came", () => {
  for (const it of [TRACE, TRACE.replace(/^00/, "01"), TRACE.replace(/01$/, "00")]) {
    expect(parseTraceparent(it)).toBe(it);
  }
});

test.for([
  undefined,
  "",
  TRACE.slice(1),
  `${TRACE} `,
  `${TRACE}\n`,
  `${TRACE}-what-a-later-version-adds`,
  TRACE.toUpperCase(),
  TRACE.replaceAll("-", "_"),
  TRACE.replace("a", "g"),
  TRACE.replace("-0a", "\r\na"),
  TRACE.replace(/^00/, "ff"),
  TRACE.replace("0af7651916cd43dd8448eb211c80319c", "0".repeat(32)),
  TRACE.replace("b7ad6b7169203331", "0".repeat(16)),
])("%j is no trace context", (value) => {
  expect(parseTraceparent(value)).toBeUndefined();
});

test("any text that is passed on is what the W3C's grammar has", () => {
  const near = fc.string({ unit: fc.constantFrom(..."0123456789abcdefF-g\n"), minLength: 55, maxLength: 55 });
  const good = fc
    .tuple(
      ...[2, 32, 16, 2].map((length) =>
        fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: length, maxLength: length }),
      ),
    )
    .map((parts) => parts.join("-"));
  fc.assert(
    fc.property(fc.oneof(near, good, fc.string()), (text) => {
      const valid =
        /^(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}$/.test(text) &&
        !text.endsWith("\n");
      expect(parseTraceparent(text)).toBe(valid ? text : undefined);
    }),
  );
});
