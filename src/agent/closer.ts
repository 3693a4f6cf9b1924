// SPDX-License-Identifier: Apache-2.0

/** What has been started is ended by these, last first. */
export type Closer = () => Promise<void> | void;
