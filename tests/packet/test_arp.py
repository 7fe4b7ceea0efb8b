"""ARP frames of the control plane against the oracle, and as Scapy reads them."""

from hypothesis import given
from hypothesis import strategies as st

from oracles import arp as oracle
from oracles import ethernet
from vforward.packet import arp

macs = st.integers(0, 2**48 - 1)
ips = st.integers(0, 2**32 - 1)


@given(mac=macs, sender=ips, target=ips, to=macs, vid=st.sampled_from([None, 1, 10, 4094]))
def test_a_request_is_what_the_oracle_asks(mac, sender, target, to, vid):
    mac_bytes = mac.to_bytes(6, "big")
    tag = ethernet.tag_of(vid)
    frame = arp.request(mac, sender, target, to=to, tags=tag)
    header = ethernet.header(to.to_bytes(6, "big"), mac_bytes, ethernet.ARP, tag)
    assert frame == header + oracle.request(mac_bytes, sender, target)


def test_it_is_broadcast_unless_said_otherwise():
    assert arp.request(0x02_00_00_00_00_01, 1, 2)[:6] == b"\xff" * 6


def test_scapy_reads_it():
    from scapy.layers.l2 import ARP, Dot1Q, Ether

    read = Ether(arp.request(0x02_00_00_00_00_01, 0x0A000001, 0x0A000002, tags=ethernet.tag_of(7)))
    assert (read.dst, read.src, read[Dot1Q].vlan) == ("ff:ff:ff:ff:ff:ff", "02:00:00:00:00:01", 7)
    asked = read[ARP]
    assert (asked.op, asked.psrc, asked.pdst) == (1, "10.0.0.1", "10.0.0.2")
    assert (asked.hwsrc, asked.hwdst) == ("02:00:00:00:00:01", "00:00:00:00:00:00")


def test_offsets_are_those_of_the_message():
    message = oracle.request(b"\x02\0\0\0\0\1", 0x01020304, 0x05060708)
    assert len(message) == arp.LENGTH
    assert message[arp.SENDER_MAC : arp.SENDER_IP] == b"\x02\0\0\0\0\1"
    assert message[arp.SENDER_IP : arp.TARGET_MAC] == bytes([1, 2, 3, 4])
    assert message[arp.TARGET_IP :] == bytes([5, 6, 7, 8])
    assert message[arp.HARDWARE : arp.HARDWARE + 4] == arp.ETHERNET_IP4.to_bytes(4, "big")
    assert message[arp.PROTOCOL : arp.OPERATION] == arp.SIZES.to_bytes(2, "big")
