// SPDX-License-Identifier: Apache-2.0

/** What stands between the node and its routes by BGP. A message never holds a password. */
export class BgpError extends Error {
  override readonly name = "BgpError";
  readonly code: /** There is no such program, or it could not be run. */
    | "BGP_NO_BIRD"
    /** BIRD refuses the configuration that was rendered for it. */
    | "BGP_CONFIG_REFUSED"
    /** A password's file is not there, or what is in it can't be a password. */
    | "BGP_PASSWORD"
    /** Routes of a BIRD that isn't flatnet's are in the kernel. */
    | "BGP_FOREIGN_BIRD"
    /** Nobody listens on BIRD's control socket. */
    | "BGP_BIRD_AWAY"
    /** BIRD runs and does not do what it is told, or says nothing. */
    | "BGP_BIRD_FAILED";
  constructor(code: BgpError["code"], message: string, cause?: unknown) {
    super(message, { cause });
    this.code = code;
  }
}
