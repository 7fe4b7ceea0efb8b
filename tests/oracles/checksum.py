# SPDX-License-Identifier: Apache-2.0
"""The Internet checksum: RFC 1071 (whole sums), RFC 1624 (incremental update)."""


def ones_sum(data: bytes) -> int:
    """Return the 16-bit ones-complement sum of data (RFC 1071 section 1).

    An odd last byte counts as the high byte of a word (RFC 1071 section 4.1). The result is 0
    only when all of data is zero; any other "zero" comes out as 0xffff.
    """
    if len(data) % 2:
        data += b"\x00"
    total = 0
    for i in range(0, len(data), 2):
        total += data[i] << 8 | data[i + 1]
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def internet(data: bytes) -> int:
    """Return the checksum to store for data whose checksum field is zero (RFC 1071 section 1)."""
    return ~ones_sum(data) & 0xFFFF


def verifies(data: bytes) -> bool:
    """Tell whether data, its checksum included, sums to all ones (RFC 1071 section 1 (3))."""
    return ones_sum(data) == 0xFFFF


def update(check: int, old: int, new: int) -> int:
    """Return the checksum after one 16-bit word changed from old to new.

    RFC 1624 section 3, equation 3: HC' = ~(~HC + ~m + m'). It equals the sum done afresh, -0 and
    +0 included, with two exceptions. Changed data that are all zero want 0xffff, and this returns
    0, which does not verify (RFC 1624 section 3 assumes there are none): see `icmp4.echo_reply`.
    And a check of 0xffff where a fresh sum had given 0 stays so, and verifies, when 0xffff
    becomes 0.
    """
    total = (~check & 0xFFFF) + (~old & 0xFFFF) + new
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def pseudo_header(src: int, dst: int, proto: int, length: int) -> bytes:
    """Return the IPv4 pseudo-header (RFC 768; RFC 9293 section 3.1)."""
    return (
        src.to_bytes(4, "big")
        + dst.to_bytes(4, "big")
        + bytes([0, proto])
        + length.to_bytes(2, "big")
    )


def l4(src: int, dst: int, proto: int, segment: bytes) -> int:
    """Return the TCP or UDP checksum of a segment whose checksum field is zero.

    A UDP checksum of 0 is sent as 0xffff, since 0 means "none" there (RFC 768).
    """
    check = internet(pseudo_header(src, dst, proto, len(segment)) + segment)
    return 0xFFFF if proto == 17 and check == 0 else check
