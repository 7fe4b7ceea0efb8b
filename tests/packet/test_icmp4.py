"""ICMP's numbers: as Scapy lays a message out, and as it names types and codes."""

from scapy.layers.inet import ICMP, icmpcodes, icmptypes

from oracles import checksum
from vforward.packet import icmp4


def test_where_the_fields_lie():
    message = bytes(ICMP(type=3, code=4, nexthopmtu=0x1234) / b"quoted")
    assert (message[icmp4.TYPE], message[icmp4.CODE]) == (icmp4.UNREACHABLE, 4)
    assert message[icmp4.REST : icmp4.HEADER] == b"\0\0\x12\x34"
    assert message[icmp4.HEADER :] == b"quoted"
    zeroed = message[: icmp4.CHECKSUM] + bytes(2) + message[icmp4.CHECKSUM + 2 :]
    found = int.from_bytes(message[icmp4.CHECKSUM : icmp4.REST], "big")
    assert found == checksum.internet(zeroed)


def test_types_and_codes():
    named = {
        icmp4.ECHO_REPLY: "echo-reply",
        icmp4.UNREACHABLE: "dest-unreach",
        icmp4.ECHO: "echo-request",
        icmp4.TIME_EXCEEDED: "time-exceeded",
    }
    assert {kind: icmptypes[kind] for kind in named} == named
    for both, name in (
        (icmp4.PROTOCOL_UNREACHABLE, "protocol-unreachable"),
        (icmp4.PORT_UNREACHABLE, "port-unreachable"),
    ):
        assert icmpcodes[both >> 8][both & 0xFF] == name


def test_queries_are_the_four_of_rfc_1122():
    """Section 3.2.2: echo, information, timestamp, address mask; each with its reply."""
    queries = ("echo-", "information-", "timestamp-", "address-mask-")
    wanted = [kind for kind, name in icmptypes.items() if name.startswith(queries)]
    assert len(wanted) == 8
    assert [kind for kind in range(256) if icmp4.QUERIES >> kind & 1] == sorted(wanted)
