# SPDX-License-Identifier: Apache-2.0
"""ICMP for IPv4 (RFC 792): offsets from the message's start, types and codes."""

TYPE, CODE, CHECKSUM, REST = 0, 1, 2, 4
HEADER = 8

ECHO_REPLY, UNREACHABLE, ECHO, TIME_EXCEEDED = 0, 3, 8, 11
QUERIES = 1 << 0 | 1 << 8 | 0b111111 << 13
"""Bit set of the types that an error may be about, all below 32: echo, timestamp, information, address mask
(RFC 1122 section 3.2.2, RFC 950)."""

PROTOCOL_UNREACHABLE, PORT_UNREACHABLE = UNREACHABLE << 8 | 2, UNREACHABLE << 8 | 3
"""Type << 8 | code."""
