// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { givable, parseMappings } from "./own-memory.ts";

const SMAPS = `00400000-00746000 r--p 00000000 fe:00 2327138                            /opt/flat net/flatnetd
Size:               3352 kB
Rss:                2008 kB
Shared_Clean:          0 kB
Shared_Dirty:          0 kB
Private_Clean:      2008 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
0074a000-03201000 r-xp 0034a000 fe:00 2327138                            /opt/flat net/flatnetd
Size:              43740 kB
Rss:               21956 kB
Shared_Clean:          0 kB
Shared_Dirty:          0 kB
Private_Clean:     21956 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
06b51000-06c00000 r--p 06751000 fe:00 2327138                            /opt/flat net/flatnetd
Rss:                 700 kB
Shared_Dirty:          0 kB
Private_Dirty:        12 kB
Anonymous:            12 kB
06c00000-06d00000 rw-p 06800000 fe:00 2327138                            /opt/flat net/flatnetd
Rss:                 400 kB
Shared_Dirty:          0 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
33a51000-33e1a000 rw-p 00000000 00:00 0                                  [heap]
Rss:                3692 kB
Shared_Dirty:          0 kB
Private_Dirty:      3692 kB
Anonymous:          3692 kB
7faa60000000-7faa601ab000 r--p 00000000 00:00 0 
Rss:                1664 kB
Shared_Dirty:          0 kB
Private_Dirty:         0 kB
Anonymous:             0 kB
`;

test("the pages that a file has as they are can go, and no others", () => {
  const found = givable(parseMappings(SMAPS), "/opt/flat net/flatnetd");
  expect(found.map(({ start, length, resident }) => [start, length, resident])).toEqual([
    [0x400000n, 0x346000, 2008 * 1024],
    [0x74a000n, 0x2ab7000, 21956 * 1024],
  ]);
});

test("a mapping of which less is said than was expected stays", () => {
  const [mapping] = parseMappings("00400000-00746000 r--p 00000000 fe:00 1 /a\nRss: 4 kB\n");
  expect(mapping?.dirty).toBeNaN();
  expect(givable([mapping as NonNullable<typeof mapping>], "/a")).toEqual([]);
});

test("this process's own mappings are read", () => {
  const mappings = parseMappings(readFileSync("/proc/self/smaps", "utf8"));
  expect(mappings.some(({ path }) => path === process.execPath)).toBe(true);
  for (const { length, resident, dirty } of mappings) {
    expect(resident).toBeLessThanOrEqual(length);
    expect(dirty).not.toBeNaN();
  }
});
