# SPDX-License-Identifier: Apache-2.0
"""TCP (RFC 9293 section 3.1): offsets in bytes from the header's start, flags."""

PORTS, SEQ, ACK, OFFSET, FLAGS, WINDOW, CHECKSUM, URGENT = 0, 4, 8, 12, 13, 14, 16, 18
"""OFFSET: the header's length in words of four bytes, in the upper half of the byte."""
HEADER = 20
"""Bytes of a header without options."""

FIN, SYN, RST, PSH, ACK_BIT, URG = 1, 2, 4, 8, 16, 32
