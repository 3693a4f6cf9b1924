// SPDX-License-Identifier: Apache-2.0
//
// The daemon of the fault build.
import "./daemon-faults.ts";
import "../flatnetd.ts";
