// SPDX-License-Identifier: Apache-2.0
//
// A process for the store's tests: opens the database in the directory named last on its command line, says "open", and
// stays until it is killed.
import { Store } from "../store.ts";

await Store.open(process.argv.at(-1) as string);
process.stdout.write("open\n");
setInterval(() => {}, 60_000);
