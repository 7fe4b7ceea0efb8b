# SPDX-License-Identifier: Apache-2.0
"""What a super-frame is cut into, as Linux does it (net/ipv4/tcp_offload.c, udp_offload.c, af_inet.c).

TCP: RFC 9293 section 3.1; every segment has the header, its own sequence number; FIN and PSH only
the last, CWR (RFC 3168 section 6.1.2) only the first. UDP (virtio's UDP_L4): a datagram for every
gso_size bytes. IPv4: the identification counts up. All checksums are whole (RFC 1071).

How a frame is wrong: "bad-headers" when they are not what the type says or reach beyond ``first``,
the bytes that lie together at its start.
"""

from oracles import checksum

TCP4, TCP6, UDP_L4 = 1, 4, 5
TCP, UDP = 6, 17
TAGS = (0x8100, 0x88A8)
FIN, PSH, CWR = 0x01, 0x08, 0x80
EXTENSIONS = (0, 43, 60)


def segments(frame: bytes, kind: int, size: int, *, partial: bool, first: int = 1 << 17):
    """The frames, or "bad-headers". partial: the checksum's field has the pseudo-header's sum."""
    found = _headers(frame[:first], kind)
    if found is None:
        return "bad-headers"
    l3, l4, protocol, end = found
    payload = frame[end:]
    if size < 48 if protocol == TCP else len(payload) > 128 * size:
        return "bad-headers"  # TCP_MIN_SND_MSS, UDP_MAX_SEGMENTS
    cut = [payload[at : at + size] for at in range(0, len(payload), size)] or [b""]
    made = []
    for k, part in enumerate(cut):
        transport = bytearray(frame[l4:end])
        if protocol == TCP:
            sequence = int.from_bytes(transport[4:8], "big") + k * size & 0xFFFFFFFF
            transport[4:8] = sequence.to_bytes(4, "big")
            if k < len(cut) - 1:
                transport[13] &= ~(FIN | PSH) & 0xFF
            if k:
                transport[13] &= ~CWR & 0xFF
        else:
            transport[4:6] = (8 + len(part)).to_bytes(2, "big")
        header = _network(bytearray(frame[l3:l4]), k, len(transport) + len(part))
        field = 16 if protocol == TCP else 6
        absent = protocol == UDP and not partial and transport[field : field + 2] == b"\0\0"
        if not (absent and header[0] >> 4 == 4):
            whole = len(frame) - l4
            pseudo = _pseudo(header, protocol, len(transport) + len(part))
            if partial:  # it may be any, of a packet with a routing header
                held = int.from_bytes(frame[l4 + field : l4 + field + 2], "big")
                pseudo = _difference(held, whole, len(transport) + len(part))
            transport[field : field + 2] = b"\0\0"
            body = bytes(transport) + part
            summed = checksum.ones_sum(pseudo + body)
            value = ~summed & 0xFFFF
            transport[field : field + 2] = (value or (0xFFFF if protocol == UDP else 0)).to_bytes(
                2, "big"
            )
        made.append(frame[:l3] + bytes(header) + bytes(transport) + part)
    return made


def _headers(frame: bytes, kind: int):
    """(l3, l4, protocol, where the payload begins), or None."""
    at = 12
    for _ in range(3):
        if len(frame) < at + 2:
            return None
        ether = int.from_bytes(frame[at : at + 2], "big")
        at += 2
        if ether not in TAGS:
            break
        at += 2
    l3 = at
    if ether == 0x0800 and kind in (TCP4, UDP_L4):
        if len(frame) < l3 + 20 or frame[l3] >> 4 != 4 or frame[l3] & 15 < 5:
            return None
        protocol, l4 = frame[l3 + 9], l3 + 4 * (frame[l3] & 15)
        if int.from_bytes(frame[l3 + 6 : l3 + 8], "big") & 0x3FFF:  # a fragment has no segments
            return None
    elif ether == 0x86DD and kind in (TCP6, UDP_L4):
        if len(frame) < l3 + 40 or frame[l3] >> 4 != 6:
            return None
        protocol, l4 = frame[l3 + 6], l3 + 40
        for _ in range(8):
            if protocol not in EXTENSIONS or len(frame) < l4 + 8:
                break
            size = 8 * (frame[l4 + 1] + 1)
            if len(frame) < l4 + size:
                break
            protocol, l4 = frame[l4], l4 + size
    else:
        return None
    if protocol != (UDP if kind == UDP_L4 else TCP):
        return None
    end = l4 + 8
    if protocol == TCP:
        if len(frame) < l4 + 20 or frame[l4 + 12] >> 4 < 5:
            return None
        end = l4 + 4 * (frame[l4 + 12] >> 4)
    return None if end > len(frame) else (l3, l4, protocol, end)


def _network(header: bytearray, k: int, behind: int) -> bytearray:
    if header[0] >> 4 == 6:
        header[4:6] = (len(header) - 40 + behind).to_bytes(2, "big")
        return header
    header[2:4] = (len(header) + behind).to_bytes(2, "big")
    header[4:6] = (int.from_bytes(header[4:6], "big") + k & 0xFFFF).to_bytes(2, "big")
    header[10:12] = b"\0\0"
    header[10:12] = checksum.internet(bytes(header)).to_bytes(2, "big")
    return header


def _pseudo(header: bytes, protocol: int, length: int) -> bytes:
    """RFC 9293 section 3.1, RFC 8200 section 8.1 (without a routing header)."""
    addresses = header[12:20] if header[0] >> 4 == 4 else header[8:40]
    return bytes(addresses) + protocol.to_bytes(4, "big") + length.to_bytes(4, "big")


def _difference(held: int, whole: int, length: int) -> bytes:
    """A pseudo-header's sum for another length: RFC 1624 section 3, the sums not complemented."""
    total = held + (~(whole & 0xFFFF) & 0xFFFF) + length
    return (total & 0xFFFF).to_bytes(2, "big") + (total >> 16).to_bytes(2, "big")
