// SPDX-License-Identifier: Apache-2.0
//
// The plugin of the fault build.
import "../flatnet.ts";
import "./plugin-faults.ts";
