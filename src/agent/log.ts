// SPDX-License-Identifier: Apache-2.0
import { destination, type Logger, pino, stdTimeFunctions } from "pino";

export type Log = Logger;

/** JSON lines on stdout, one an event, written before the call returns: a daemon that crashes has said why. */
export function createLog(level: string, nodeName: string): Log {
  return pino(
    {
      level,
      base: { node: nodeName },
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination({ dest: 1, sync: true }),
  );
}
