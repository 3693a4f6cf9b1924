// SPDX-License-Identifier: Apache-2.0
//
// MAC addresses of a veth pair. They follow from the pod's address, are locally administered unicast (IEEE 802, second
// bit of the first byte set, first bit clear), and are set when the link is made, so that udev leaves them alone.

/** MAC of the pod's end: 02:fe and the last four bytes of the address. */
export function podMac(address: Uint8Array): Uint8Array {
  return mac(0x02, address);
}

/** MAC of the host's end: 06:fe and the last four bytes of the address. */
export function hostMac(address: Uint8Array): Uint8Array {
  return mac(0x06, address);
}

function mac(first: number, address: Uint8Array): Uint8Array {
  const out = new Uint8Array(6);
  out[0] = first;
  out[1] = 0xfe;
  out.set(address.subarray(address.length - 4), 2);
  return out;
}

/** "02:fe:0a:f4:01:07". */
export function formatMac(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += `${text === "" ? "" : ":"}${byte < 16 ? "0" : ""}${byte.toString(16)}`;
  return text;
}

/** The link-local address that belongs to a MAC: fe80::/64 and the modified EUI-64 (RFC 4291, appendix A). */
export function linkLocal(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(16);
  out[0] = 0xfe;
  out[1] = 0x80;
  out.set(bytes.subarray(0, 3), 8);
  out[8] = (out[8] as number) ^ 0x02;
  out[11] = 0xff;
  out[12] = 0xfe;
  out.set(bytes.subarray(3), 13);
  return out;
}
