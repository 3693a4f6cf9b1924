// SPDX-License-Identifier: Apache-2.0
//
// Times as people write and read them, in the zone of whoever runs the command.
import { CtlError } from "./errors.ts";

/**
 * "14:03", "14:03:20" (the latest one that is not to come), "2026-11-23 14:03", or anything of ISO 8601.
 * @param nowMs milliseconds since 1970, as is what it returns
 * @throws CtlError CTL_USAGE
 */
export function parseTime(text: string, nowMs: number): number {
  const ofDay = /^(\d{1,2}):(\d{2})(?::(\d{2}))?$/.exec(text);
  if (ofDay !== null) {
    const [hours, minutes, seconds] = ofDay.slice(1).map((part) => Number(part ?? 0)) as [number, number, number];
    if (hours > 23 || minutes > 59 || seconds > 59) throw noTime(text);
    const time = new Date(nowMs);
    time.setHours(hours, minutes, seconds, 0);
    if (time.getTime() > nowMs) time.setDate(time.getDate() - 1);
    return time.getTime();
  }
  // Date takes much else, "1" among it.
  const isIso = /^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$/.test(text);
  // A date alone would be read as one of UTC.
  const parsed = isIso ? Date.parse(text.length === 10 ? `${text}T00:00` : text.replace(" ", "T")) : Number.NaN;
  if (Number.isNaN(parsed)) throw noTime(text);
  return parsed;
}

function noTime(text: string): CtlError {
  return new CtlError(
    "CTL_USAGE",
    `${JSON.stringify(text)} is no time like 14:03, "2026-11-23 14:03" or 2026-11-23T14:03:20Z`,
  );
}

/** "2026-11-23 14:03:20". */
export function formatTime(ms: number): string {
  const time = new Date(ms);
  const two = (value: number) => `${value}`.padStart(2, "0");
  const date = [time.getFullYear(), two(time.getMonth() + 1), two(time.getDate())].join("-");
  return `${date} ${[time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(":")}`;
}
