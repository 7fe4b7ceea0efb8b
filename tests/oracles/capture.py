# SPDX-License-Identifier: Apache-2.0
"""What a frame is, field by field, for filters of captures: plain Python over one frame.

IEEE 802.3, 802.1Q; RFC 826; RFC 791; RFC 8200 section 4; RFC 768, RFC 9293 (ports).
"""

from ipaddress import IPv4Address, IPv6Address

EXTENSIONS = {0, 43, 44, 60}


def facts(frame):
    """kind, tags, protocol, addresses (src, dst), ports (src, dst); what is not there is None."""
    found = {"kind": None, "tags": [], "protocol": None, "addresses": None, "ports": None}
    found["size"] = len(frame)
    if len(frame) < 14:
        return found
    at = 12
    kind = int.from_bytes(frame[12:14], "big")
    while kind in (0x8100, 0x88A8) and len(found["tags"]) < 2 and len(frame) >= at + 6:
        found["tags"].append(int.from_bytes(frame[at + 2 : at + 4], "big") & 0xFFF)
        at += 4
        kind = int.from_bytes(frame[at : at + 2], "big")
    body = frame[at + 2 :]
    if kind == 0x0806 and len(body) >= 28:
        found["kind"] = "arp"
        found["addresses"] = IPv4Address(body[14:18]), IPv4Address(body[24:28])
    elif kind == 0x0800 and len(body) >= 20 and body[0] >> 4 == 4 and body[0] & 15 >= 5:
        found["kind"], found["protocol"] = "ip", body[9]
        found["addresses"] = IPv4Address(body[12:16]), IPv4Address(body[16:20])
        if not int.from_bytes(body[6:8], "big") & 0x1FFF:
            found["ports"] = _ports(body[9], body[4 * (body[0] & 15) :])
    elif kind == 0x86DD and len(body) >= 40 and body[0] >> 4 == 6:
        found["kind"] = "ip6"
        found["addresses"] = IPv6Address(body[8:24]), IPv6Address(body[24:40])
        _six(body, found)
    return found


def _six(body, found):
    protocol, rest, first = body[6], body[40:], True
    for _ in range(4):
        if protocol not in EXTENSIONS or len(rest) < 8 or not first:
            break
        if protocol == 44:
            size, first = 8, not int.from_bytes(rest[2:4], "big") >> 3
        else:
            size = 8 * (rest[1] + 1)
        protocol, rest = rest[0], rest[size:]
    found["protocol"] = protocol
    if first:
        found["ports"] = _ports(protocol, rest)


def _ports(protocol, segment):
    if protocol not in (6, 17) or len(segment) < 4:
        return None
    return int.from_bytes(segment[:2], "big"), int.from_bytes(segment[2:4], "big")
