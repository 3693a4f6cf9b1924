// SPDX-License-Identifier: Apache-2.0
import { run } from "./daemon.ts";
import { inNetns, type Netns } from "./netns.ts";

/** Where the tests' daemons serve metrics. */
export const METRICS_ADDRESS = "127.0.0.1:9470";

/** GET in a namespace. @param address HOST:PORT, of IPv4 */
export async function httpGet(netns: Netns, address: string, path: string): Promise<{ code: number; body: string }> {
  const request = `exec 3<>/dev/tcp/${address.replace(":", "/")}; printf 'GET ${path} HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3`;
  const text = await run(inNetns(netns.path, "bash", "-c", request));
  const end = text.indexOf("\r\n\r\n");
  return { code: Number(text.split(" ")[1]), body: end < 0 ? "" : text.slice(end + 4) };
}
