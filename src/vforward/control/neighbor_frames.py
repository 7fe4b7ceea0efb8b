# SPDX-License-Identifier: Apache-2.0
"""The frames by which neighbors are asked for and told: ARP or ND by the address's family.

Addresses are 128 bits (tables.addresses), ports are records of tables.ports.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

from numpy.typing import NDArray

from vforward.packet import arp, ip6, nd
from vforward.packet import ethernet as eth
from vforward.tables import addresses as address_table


def is_ip4(ip: int) -> bool:
    """Whether it is an IPv4 address."""
    return ip >> 32 == address_table.MAPPED >> 32


def address_of(ip: int) -> IPv4Address | IPv6Address:
    """An address as users see it."""
    return IPv4Address(ip & 0xFFFFFFFF) if is_ip4(ip) else IPv6Address(ip)


def bits_of(address: IPv4Address | IPv6Address) -> int:
    """An address as 128 bits."""
    return address_table.mapped_int(int(address)) if address.version == 4 else int(address)


def tags_of(record: Any) -> bytes:
    """The tags that a port's frames carry, outer first: IEEE 802.1Q-2018 section 9.6."""
    tags = ((record["tpid"], record["vlan"]), (eth.VLAN, record["inner"]))
    words = (int(word) for tag in tags[: int(record["tags"])] for word in tag)
    return b"".join(word.to_bytes(2, "big") for word in words)


def own_in_prefix(addresses: NDArray[Any], port: int, ip: int) -> int | None:
    """The port's address whose prefix covers another one."""
    for own, length in address_table.of_port(addresses, port):
        if (own ^ ip) >> (128 - length) == 0 and own != ip and is_ip4(own) == is_ip4(ip):
            return own
    return None


def source_for(addresses: NDArray[Any], port: int, ip: int) -> int | None:
    """The address to ask from: one in a prefix that covers ip, or for IPv6 a link-local one.

    From an IPv4 address of another prefix nobody would be believed.
    """
    found = own_in_prefix(addresses, port, ip)
    if found is None and not is_ip4(ip):
        own = (own for own, _ in address_table.of_port(addresses, port))
        shift = 64 + ip6.LINK_LOCAL_SHIFT
        return next((o for o in own if o >> shift == ip6.LINK_LOCAL and o != ip), None)
    return found


def request(record: Any, source: int, ip: int, mac: bytes | None) -> bytes:
    """The frame that asks who has ip: everybody, or the station mac."""
    own, tags = int(record["mac"]), tags_of(record)
    to = 0 if mac is None else int.from_bytes(mac, "big")
    if is_ip4(ip):
        ends = source & 0xFFFFFFFF, ip & 0xFFFFFFFF
        return arp.request(own, *ends, to=to or eth.BROADCAST, tags=tags)
    return nd.solicitation(own, source, ip, to=to, tags=tags)


def announcement(record: Any, ip: int) -> bytes:
    """The frame that tells all stations that an address is the port's.

    Gratuitous ARP (RFC 5227 section 3), an unsolicited advertisement (RFC 4861 section 7.2.6).
    """
    own, tags = int(record["mac"]), tags_of(record)
    if is_ip4(ip):
        return arp.request(own, ip & 0xFFFFFFFF, ip & 0xFFFFFFFF, tags=tags)
    return nd.announcement(own, ip, tags=tags)
