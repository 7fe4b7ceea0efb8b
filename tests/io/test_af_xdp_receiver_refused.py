# SPDX-License-Identifier: Apache-2.0
"""Receiving by AF_XDP where something is refused: programs and sockets of others, kernels, capabilities."""

import contextlib
import errno
import os
import shutil
import socket

import pytest

import bpf
import xdp_receiver_worlds
from fuzzing import open_fds
from vforward.errors import PortError
from vforward.io import af_xdp_rx as rx
from vforward.io import af_xdp_socket as xsk
from vforward.io import shim
from vforward.io.af_packet import AfPacketPort
from vforward.io.af_xdp_socket import XdpSocket
from xdp_receiver_worlds import PLAIN, numbered, on_interface, opened, process, queues, raw

pytestmark = pytest.mark.root


pair = xdp_receiver_worlds.pair


UDP_SEGMENT = 103


def test_more_queues_than_are_taken(monkeypatch):
    monkeypatch.setattr(rx, "QUEUES_MAX", 1)
    with queues(2, 2) as pair:
        refused(pair, "2 queues are more than the 1 that are taken; ethtool -L near combined 1")


def test_in_skb_mode_where_the_driver_refuses(caplog):
    """A veth does when the other end sends by more queues than it receives by."""
    with queues(1, 2) as pair, opened(pair) as k, raw(pair[1]) as far:
        said = k.port.peer()
        assert "in SKB mode, where super-frames, and VLAN tags beside frames, are lost (" in said
        assert "(native XDP: veth: the other end sends by more queues than this one has" in said
        assert "ethtool -L near rx N)" in said
        assert "in SKB mode" in caplog.text
        assert on_interface(pair[0]) == "xdpgeneric"
        for n in range(200):
            far.send(PLAIN + numbered(60 + n, n))
        assert k.take(200) == [numbered(60 + n, n) for n in range(200)]
        k.memory.send([numbered(60, n) for n in range(200)])
        k.rounds()
        assert [far.recv(2000)[10:] for _ in range(200)] == [numbered(60, n) for n in range(200)]
        assert k.counts("tx")["xdp"] == 200


def test_in_skb_mode_super_frames_are_lost():
    """And counted, if they are longer than a slot; shorter ones are one frame. Natively veth has them
    cut before.
    """
    for send, mode in ((1, "native XDP"), (2, "SKB mode")):
        with queues(1, send) as pair, opened(pair) as k:
            assert mode in k.port.peer()
            _, b = pair
            b.address("eth0", "10.0.0.2/24")
            neighbor = ("10.0.0.1", "lladdr", "02:00:00:00:00:0b", "dev", "eth0")
            b.run("ip", "neighbor", "add", *neighbor)
            with b.inside():
                far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with far:
                far.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 1000)
                far.sendto(bytes(10_000), ("10.0.0.1", 9))
                far.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 500)
                far.sendto(bytes(1000), ("10.0.0.1", 9))
            came = [1000] * 10 + [500] * 2 if send == 1 else [1000]
            assert [len(frame) - 42 for frame in k.take(len(came))] == came
            assert k.port.statistics()["kernel-too-long"] == send - 1


def refused(pair, text, **options):
    """The port cannot be opened, says why, and leaves nothing."""
    f, _ = pair
    before = open_fds()
    port = AfPacketPort("near", mode="xdp", **options)
    with f.inside(), pytest.raises(PortError, match=f"'near': mode = \"xdp\": .*{text}"):
        port.open(0, None)
    assert port.descriptors() == []
    assert open_fds() <= before
    port.close()


@pytest.mark.parametrize("flags", [0, bpf.SKB_MODE])
def test_another_xdp_program_is_left_alone(pair, flags):
    with pair[0].inside():
        index = socket.if_nametoindex("near")
    with contextlib.ExitStack() as stack:
        with pair[0].inside():
            stack.enter_context(bpf.xdp(index, flags=flags))
        before = on_interface(pair[0])
        refused(pair, "another XDP program is on the interface; ip link set dev near xdp off")
        assert on_interface(pair[0]) == before != ""


def test_another_socket_on_a_queue(pair):
    with pair[0].inside():
        other = XdpSocket(receive=64)
        other.bind(socket.if_nametoindex("near"))
    refused(pair, "another program has an AF_XDP socket on the interface")
    assert on_interface(pair[0]) == ""
    other.close()


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        ("vf_xsk_map", errno.EPERM, "needs CAP_NET_ADMIN and CAP_BPF: run as root"),
        ("vf_xsk_map", errno.ENOSYS, r"has no bpf\(2\)"),
        ("vf_xsk_map", errno.EINVAL, "too old; Linux 5.9 has all"),
        ("vf_xsk_map_set", errno.E2BIG, "a place in the XSKMAP: Argument list too long"),
        ("vf_xdp_program", errno.EPERM, "needs CAP_NET_ADMIN and CAP_BPF"),
        ("vf_xdp_program", errno.EINVAL, "too old; Linux 5.9 has all"),
        ("vf_xdp_attach", errno.EPERM, "needs CAP_NET_ADMIN and CAP_BPF"),
        ("vf_xdp_attach", errno.EINVAL, "to attach it: Invalid argument; Linux 5.9 has all"),
    ],
)
def test_each_step_that_the_kernel_refuses(pair, monkeypatch, function, error, text):
    if function != "vf_xsk_map_set":
        monkeypatch.setattr("vforward.io.af_xdp_program.function_id", lambda name: 0)
    monkeypatch.setattr(shim.lib, function, lambda *_: -error, raising=False)
    refused(pair, text)


def test_a_kernel_without_af_xdp(pair, monkeypatch):
    monkeypatch.setattr(xsk, "AF_XDP", 200)
    refused(pair, r"the kernel has no AF_XDP \(CONFIG_XDP_SOCKETS\)")


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (("setpriv", "--bounding-set=-bpf,-sys_admin"), "needs CAP_NET_ADMIN and CAP_BPF"),
        (("setpriv", "--bounding-set=-net_admin,-sys_admin"), "needs CAP_NET_ADMIN and CAP_BPF"),
        (("setpriv", "--bounding-set=-net_raw"), "needs CAP_NET_RAW"),
        (("unshare", "-Ur"), "needs CAP_NET_"),
    ],
)
def test_without_a_capability_it_says_so(pair, before, text):
    if os.geteuid() or not shutil.which(before[0]):
        pytest.skip("cannot give up a capability here")
    started, said = process(pair, *before)
    with started:
        started.stdin.close()
    assert text in said, said
    assert on_interface(pair[0]) == ""
