// SPDX-License-Identifier: Apache-2.0
//
// The plugin of the fault build.
import "./plugin-faults.ts";
import "../flatnet.ts";
