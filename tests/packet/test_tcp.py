"""Offsets and flags of TCP against a segment that Scapy builds."""

from scapy.layers.inet import TCP

from vforward.packet import tcp


def test_where_the_fields_are():
    segment = bytes(
        TCP(sport=0x0102, dport=0x0304, seq=0x05060708, ack=0x090A0B0C, dataofs=6, flags="S",
            window=0x1112, chksum=0x1314, urgptr=0x1516)
    )  # fmt: skip
    assert segment[tcp.SOURCE : tcp.SOURCE + 4].hex() == "01020304"
    assert segment[tcp.SEQUENCE : tcp.SEQUENCE + 4].hex() == "05060708"
    assert segment[tcp.ACKNOWLEDGMENT : tcp.ACKNOWLEDGMENT + 4].hex() == "090a0b0c"
    assert segment[tcp.OFFSET] >> 4 == 6
    assert segment[tcp.WINDOW : tcp.WINDOW + 2].hex() == "1112"
    assert segment[tcp.CHECKSUM : tcp.CHECKSUM + 2].hex() == "1314"
    assert segment[tcp.URGENT : tcp.URGENT + 2].hex() == "1516"
    assert tcp.HEADER == 20


def test_flags():
    bits = {"F": tcp.FIN, "S": tcp.SYN, "R": tcp.RST, "P": tcp.PSH, "A": tcp.ACK, "U": tcp.URG}
    for letter, bit in bits.items():
        assert bytes(TCP(flags=letter))[tcp.FLAGS] == bit
