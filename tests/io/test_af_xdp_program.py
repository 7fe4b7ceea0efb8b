# SPDX-License-Identifier: Apache-2.0
"""XdpProgram: what it gives to whom, and what the kernel's own verifier and drivers say of it."""

import errno
import re
import socket
import struct

import pytest

import bpf
from fuzzing import open_fds
from vforward.io import af_xdp_program, linux, shim
from vforward.io.af_xdp_program import XdpProgram
from vforward.io.af_xdp_socket import XdpSocket
from vforward.io.btf import function_id
from vforward.testing.namespaces import namespaces, veth

pytestmark = pytest.mark.root

FRAME = bytes(12) + b"\x88\xb5" + bytes(46)


@pytest.fixture
def place():
    """f's near, in whose namespace the test is, and b's eth0."""
    with namespaces("f", "b") as (f, b):
        veth(f, "near", b, "eth0")
        with f.inside():
            yield f, b, socket.if_nametoindex("near")


@pytest.fixture(params=["tags", "plain", "no frags"])
def kind(request, monkeypatch):
    """Which of the programs is loaded."""
    if request.param != "tags":
        monkeypatch.setattr(af_xdp_program, "function_id", lambda name: 0)
    elif not function_id(af_xdp_program.TAG_FUNCTION):
        pytest.skip("needs Linux 6.8")
    if request.param == "no frags":
        real = shim.lib.vf_xdp_program
        monkeypatch.setattr(
            shim.lib,
            "vf_xdp_program",
            lambda where, frags: -errno.EINVAL if frags else real(where, 0),
            raising=False,
        )
    return request.param


def shown(host):
    found = re.search(r" (xdp\w*) ", host.run("ip", "link", "show", "dev", "near"))
    return found[1] if found else ""


def raw(host, interface):
    with host.inside():
        made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(linux.ETH_P_ALL))
        made.bind((interface, linux.ETH_P_ALL))
    made.settimeout(5)
    return made


def test_it_is_on_the_interface_as_long_as_it_is_open(place, kind):
    f, _, index = place
    before = open_fds()
    program = XdpProgram("near", index, 1)
    assert shown(f) == ""
    program.attach()
    assert shown(f) == "xdp"
    assert (program.native, program.tags, program.why) == (True, kind == "tags", "")
    program.close()
    program.close()
    assert shown(f) == ""
    assert open_fds() <= before


def test_frames_of_queues_without_a_socket_pass_on(place, kind):
    f, b, index = place
    with raw(f, "near") as near, raw(b, "eth0") as far:
        program = XdpProgram("near", index, 4)
        program.attach()
        far.send(FRAME)
        assert near.recv(2000) == FRAME
        made = XdpSocket(receive=64)
        made.bind(index)
        program.add(0, made.fd)
        far.send(FRAME)
        near.settimeout(0.1)
        with pytest.raises(TimeoutError):
            near.recv(2000)
        made.close()  # so the map has none any more
        near.settimeout(5)
        far.send(FRAME)
        assert near.recv(2000) == FRAME
        program.close()


def test_a_tag_beside_a_frame_that_passes_on_stays_there(place, kind):
    """It is Linux's, which has it once and not twice."""
    f, b, index = place
    with raw(f, "near") as near, raw(b, "eth0") as far:
        near.setsockopt(linux.SOL_PACKET, linux.PACKET_AUXDATA, 1)
        program = XdpProgram("near", index, 1)
        program.attach()
        with b.inside():
            tags = bpf.tags_beside(socket.if_nametoindex("eth0"), 42)
        with b.inside(), tags:
            far.send(FRAME)
        frame, aside, _, _ = near.recvmsg(2000, 100)
        assert frame == FRAME
        status, *_, tci, tpid = linux_aside(aside)
        assert status & linux.TP_STATUS_VLAN_VALID
        assert (tci, tpid) == (42, 0x8100)
        program.close()


def linux_aside(aside):
    ((_, _, value),) = aside
    return struct.unpack("IIIHHHH", value)


def test_a_place_that_the_map_has_not(place):
    _, _, index = place
    program = XdpProgram("near", index, 1)
    made = XdpSocket(receive=64)
    made.bind(index)
    with pytest.raises(OSError, match="a place in the XSKMAP: Argument list too long"):
        program.add(1, made.fd)
    made.close()
    program.close()


def test_no_such_interface(place):
    before = open_fds()
    program = XdpProgram("none", 9999, 1)
    with pytest.raises(OSError, match=r"to attach it: "):
        program.attach()
    program.close()
    assert open_fds() <= before


@pytest.mark.parametrize("flags", [0, bpf.SKB_MODE])
def test_another_program_is_there(place, flags):
    f, _, index = place
    with bpf.xdp(index, flags=flags):
        there = shown(f)
        program = XdpProgram("near", index, 1)
        with pytest.raises(OSError, match="ip link set dev near xdp off"):
            program.attach()
        program.close()
        assert shown(f) == there


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (errno.EOPNOTSUPP, "its driver has none"),
        (errno.ENOSPC, "veth: .*; ethtool -L near rx N"),
        (errno.ERANGE, "veth: the MTU of the other end"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_driver_that_refuses(place, monkeypatch, error, why):
    f, _, index = place
    real = shim.lib.vf_xdp_attach
    monkeypatch.setattr(
        shim.lib,
        "vf_xdp_attach",
        lambda program, where, native: -error if native else real(program, where, 0),
        raising=False,
    )
    program = XdpProgram("near", index, 1)
    program.attach()
    assert shown(f) == "xdpgeneric"
    assert (program.native, program.tags) == (False, False)
    assert re.search(why, program.why)
    program.close()
    assert shown(f) == ""
