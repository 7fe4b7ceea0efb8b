"""Whose address, and which to speak from, by port: against the network's lists."""

import pytest

from nodes import network6 as net
from nodes.network6 import ADDRESSES, N_PORTS, PORTS, a
from vforward.tables.scope import NOBODY, is_anycast, is_ours, speaker

HALF = (1 << 64) - 1


@pytest.mark.parametrize("port", range(1, N_PORTS))
def test_is_ours(port):
    """Link-local addresses are the port's alone; others are known in all of the VRF."""
    for address in ADDRESSES:
        if address in net.icmp6.ip6.MAPPED:
            continue
        high, low = int(address) >> 64, int(address) & HALF
        found = is_ours(net.addresses(), net.ports(), port, net.np.uint64(high), net.np.uint64(low))
        assert bool(found) == (address in net.known(port)), address


@pytest.mark.parametrize("port", range(1, N_PORTS))
def test_is_anycast(port):
    known = net.anycast(port)
    assert known
    every = {to for other in range(1, N_PORTS) for to in net.anycast(other)}
    for address in {*every, *ADDRESSES, a("2001:db8:1:0:1::"), a("2001:db8:4::"), a("::")}:
        high, low = net.np.uint64(int(address) >> 64), net.np.uint64(int(address) & HALF)
        found = is_anycast(net.addresses(), net.ports(), port, high, low)
        assert bool(found) == (address in known), address


@pytest.mark.parametrize("port", range(1, N_PORTS))
@pytest.mark.parametrize("link", [False, True])
def test_speaker(port, link):
    at = speaker(net.addresses(), net.ports(), port, link)
    want = net.speaker(port, a("fe80::9") if link else a("2001:db8::9"))
    if want is None:
        assert at == NOBODY
    else:
        record = net.addresses()[at]
        assert int(record["high"]) << 64 | int(record["low"]) == int(want)


def test_the_ranks():
    """By hand: own global address, another port's of the VRF, own link-local one; or none."""
    spoken = {port: net.speaker(port, a("2001:db8::9")) for port in range(1, N_PORTS)}
    assert spoken[net.LAN] == a("2001:db8:1::1")
    assert spoken[net.STACKED] == a("2001:db8:1::1")
    assert spoken[net.IN_VRF] == a("fd00::1")
    assert net.speaker(net.BARE, a("fe80::9")) is None
    assert PORTS[net.NO_LINK_LOCAL - 1].own == [a("2001:db8:4::1")]
