# SPDX-License-Identifier: Apache-2.0
"""Every combination of offloads again, between two VLANs: tags are put back, and content is unchanged."""

import contextlib
from types import SimpleNamespace

import pytest

from e2e.lab import ipv6, lab, ping, routed, until
from e2e.test_offloads import (
    COMBINATIONS,
    H1,
    H1_6,
    H2,
    H2_6,
    LAN,
    LAN6,
    REGROUPED,
    WAN,
    WAN6,
    exchange,
    switch_offloads,
)
from e2e.vlan_device import vlan_device

pytestmark = pytest.mark.root

VIDS = {"lan": 7, "wan": 4094}


@contextlib.contextmanager
def net_of():
    """A router with a sub-interface on each port, and hosts that have theirs."""
    ours = {"lan": (f"{LAN}/24", f"{LAN6}/64"), "wan": (f"{WAN}/24", f"{WAN6}/64")}
    hosts = {"lan": (H1, H1_6, LAN, LAN6), "wan": (H2, H2_6, WAN, WAN6)}
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(lab())
        router = stack.enter_context(routed(place, {"lan": (), "wan": ()}))
        for port, vid in VIDS.items():
            router.forwarder.add_vlan(f"{port}-vlan", port, vid, ours[port])
        router.start()
        router.but = REGROUPED
        devices = []
        for host, port in zip(place.hosts, VIDS, strict=True):
            devices.append(stack.enter_context(vlan_device(host, VIDS[port], "vlan")))
            own, own6, via, via6 = hosts[port]
            host.address("vlan", f"{own}/24")
            host.run("ip", "route", "add", "default", "via", via)
            ipv6(host, f"{own6}/64", via=via6, device="vlan")
        yield SimpleNamespace(place=place, router=router, devices=devices, mtu=1500)


@pytest.fixture(scope="module")
def net():
    with net_of() as made:
        until(lambda: "1 received" in ping(made.place.h1, H2, "-c1"), "no ping")
        yield made


@pytest.mark.parametrize("combination", COMBINATIONS)
def test_every_combination(net, combination):
    """At one end each combination, at the other the opposite one; and the same at both."""
    before = net.router.drops()
    for other in (combination.translate(str.maketrans("+-", "-+")), combination):
        switch_offloads(net.place, combination, other)
        exchange(net, 100_000)
    net.router.settle(REGROUPED)
    assert net.router.drops() == before


def test_super_frames_cross_with_their_tags(net):
    """With all offloads on they come tagged, and leave so, as what they are."""
    switch_offloads(net.place, "++++", "++++")
    before = [list(device.super_frames) for device in net.devices]
    exchange(net, 1_000_000)
    (sent, back), (far_sent, far_back) = (
        [now - then for now, then in zip(device.super_frames, were, strict=True)]
        for device, were in zip(net.devices, before, strict=True)
    )
    assert min(sent, back, far_sent, far_back) > 10
