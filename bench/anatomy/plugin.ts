// SPDX-License-Identifier: Apache-2.0
//
// The plugin that tells when it took each step.
import "../../src/bin/flatnet.ts";

import "./marks.ts";
