// SPDX-License-Identifier: Apache-2.0
//
// The daemon of the fault build.
import "./faults.ts";
import "../flatnetd.ts";
