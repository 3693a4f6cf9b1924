// SPDX-License-Identifier: Apache-2.0
//
// Packets that policies have denied: some of them, which the rules sample to NFLOG.
import { type Family, formatAddress } from "../../net/address.ts";
import { decodeAck, encodeBatch, NetlinkError, NLMSG_ERROR } from "../../netlink/message.ts";
import { bindLogGroup, decodeLogged } from "../../netlink/nflog.ts";
import { listen, type NotificationSocket } from "../../netlink/notifications.ts";
import { parsePacketHead } from "../../netlink/packet.ts";
import { SAMPLE_BYTES, sampledAt } from "./encode.ts";

/** A sample, with addresses in canonical text. */
export interface DeniedPacket {
  /** The chain that denied it. */
  readonly chain: string;
  /** Of the rule there, where a rule of a policy did; undefined where nothing allowed it. */
  readonly place: number | undefined;
  readonly family: Family;
  readonly source: string;
  readonly destination: string;
  /** IPPROTO_* number. */
  readonly protocol: number;
  /** Where it was sent to; undefined for what has no ports. */
  readonly port: number | undefined;
}

/** A socket to NETLINK_NETFILTER. */
export interface LogSocket extends NotificationSocket {
  send(bytes: Uint8Array): void;
}

export interface DeniedHandlers {
  readonly onPacket: (packet: DeniedPacket) => void;
  /** There will be none: somebody else has the group, for one. */
  readonly onError: (error: unknown) => void;
}

/**
 * Listens from now on.
 * @param socket closed with it
 * @returns ends it
 * @throws SysError
 */
export function watchDenied(socket: LogSocket, group: number, { onPacket, onError }: DeniedHandlers): () => void {
  const requests = bindLogGroup(group, SAMPLE_BYTES);
  socket.send(encodeBatch(requests, 1, 0));
  return listen(socket, {
    onMessage: (message) => {
      if (message.type === NLMSG_ERROR) {
        const { errno, text } = decodeAck(message);
        const { what } = requests[message.seq - 1] ?? { what: "listen to NFLOG" };
        if (errno !== 0) onError(NetlinkError.refused(what, errno, text));
        return;
      }
      const logged = decodeLogged(message);
      const head = logged && parsePacketHead(logged.payload);
      if (logged === undefined || head === undefined) return;
      const { family, source, destination, protocol, ports } = head;
      onPacket({
        ...sampledAt(logged.prefix),
        family,
        source: formatAddress(source),
        destination: formatAddress(destination),
        protocol,
        port: ports?.destination,
      });
    },
    // They are samples: some more that nobody sees are no loss.
    onLost: () => {},
  });
}
