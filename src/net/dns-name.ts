// SPDX-License-Identifier: Apache-2.0
//
// Names that others may use for a container in its network (CNI CONVENTIONS.md, "aliases"). Pure, and without regular
// expressions, as it is on the plugin's path.

/** Most aliases of one attachment: more than any runtime gives, few enough for a request and a record. */
export const ALIASES_MAX = 64;

/** Longest name and label in characters (RFC 1035, section 3.1: 255 and 63 octets with their lengths). */
const NAME_MAX = 253;
const LABEL_MAX = 63;

/** The rule that isAlias has, in the words of an error. */
export const ALIAS_RULE = 'a DNS name: labels of up to 63 letters, digits, "-" and "_" between dots, 253 in all';

/**
 * Whether the text can be looked up as a name. Underscores are in no host name (RFC 1123, section 2.1), but in the names
 * that Podman gives its containers, and DNS has nothing against them (RFC 2181, section 11).
 */
export function isAlias(text: string): boolean {
  if (text.length > NAME_MAX) return false;
  let label = 0;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c === 46) {
      if (label === 0) return false;
      label = 0;
      continue;
    }
    const alphanumeric = (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || (c >= 97 && c <= 122);
    if ((!alphanumeric && c !== 45 && c !== 95) || ++label > LABEL_MAX) return false;
  }
  return label > 0;
}
