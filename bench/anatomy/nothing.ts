// SPDX-License-Identifier: Apache-2.0
//
// The engine, and nothing to do for it.
import "../../src/sys/quickjs/host.ts";

host.start = () => host.exit(0);
