# SPDX-License-Identifier: Apache-2.0
"""AfPacketPort's way up: interfaces, namespaces, what the kernel lacks, what is refused and how."""

import contextlib
import errno
import os
import re
import select
import shutil
import subprocess
import sys
import time
import uuid

import pytest

import packet_worlds
from packet_worlds import A_MAC, numbered, received, wire
from vforward.errors import PortError
from vforward.graph.scheduler import run
from vforward.io import shim
from vforward.io.af_packet import AfPacketPort
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.testing.namespaces import veth

pytestmark = pytest.mark.root


mode = packet_worlds.mode
place = packet_worlds.place


@pytest.mark.parametrize("function", ["vf_packet_version2", "vf_packet_rx_ring", "vf_mmap_shared"])
@pytest.mark.parametrize("mode", ["auto", "ring"])
def test_a_ring_that_is_refused(place, monkeypatch, caplog, function, mode):
    monkeypatch.setattr(shim.lib, function, lambda *_: -errno.EOPNOTSUPP, raising=False)
    if mode == "ring":
        with (
            Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena,
            place.f.inside(),
            pytest.raises(PortError, match=r"'a'.*not supported"),
        ):
            AfPacketPort("a", mode=mode).open(0, Pool(arena, 16))
        return
    with wire(place, mode=mode) as w, place.raw(place.a) as a, place.raw(place.b) as b:
        said = w.ports[0].peer().split("; ")[0]
        assert re.fullmatch(r"receives by recvmmsg \(Linux refuses a ring: .*not supported\)", said)
        assert said in caplog.text
        a.send(numbered(60))
        run(w.words, True)
        assert received(b) == numbered(60)


def test_in_a_namespace_by_its_path(place):
    with (
        wire(place, inside=False, netns=place.f.path) as w,
        place.raw(place.a) as a,
        place.raw(place.b) as b,
    ):
        a.send(numbered(60))
        w.rounds()
        assert received(b) == numbered(60)
    with pytest.raises(
        PortError, match="'a': network namespace 'no-such': there is no /run/netns/no-such"
    ):
        AfPacketPort("a", netns="no-such").open(0, None)


def test_in_a_namespace_what_is_wrong_is_to_be_seen_there(place):
    place.f.run("ip", "link", "set", "dev", "a", "down")
    there = f"nsenter --net={place.f.path} ip link"
    for name, text in (
        ("no-such", f"{there} shows those there"),
        ("a", f"{there} set dev a up, or"),
    ):
        with pytest.raises(PortError, match=rf"'{name}': .*{text}"):
            AfPacketPort(name, netns=place.f.path).open(0, None)


@pytest.mark.parametrize("inside", [False, True])
def test_one_that_was_made_anew_is_set_up_again(place, mode, inside):
    options = {"mode": mode, "set_up": True, "mtu": 1400}
    if not inside:
        options["netns"] = place.f.path
    with wire(place, inside=inside, **options) as w:
        place.f.run("ip", "link", "delete", "dev", "a")
        w.ports[0].statistics()
        assert "no interface 'a' now" in w.ports[0].peer()
        veth(place.a, "eth0", place.f, "a")
        place.f.run("ip", "link", "set", "dev", "a", "down")
        with place.f.inside() if inside else contextlib.nullcontext():
            w.ports[0].statistics()
        assert "receives by" in w.ports[0].peer()
        assert "mtu 1400" in place.f.run("ip", "link", "show", "dev", "a", "up")
        with place.raw(place.a) as a, place.raw(place.b) as b:
            until = time.monotonic() + 5
            while not select.select([b], [], [], 0.05)[0] and time.monotonic() < until:
                a.send(numbered(60))  # the carrier takes a moment
                w.rounds()
            assert received(b) == numbered(60)
    assert "mtu 1500" in place.f.run("ip", "link", "show", "dev", "a")


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        ("vf_packet_socket", errno.EAFNOSUPPORT, "lacks packet sockets: .*; modprobe af_packet"),
        ("vf_packet_socket", errno.EPERM, "needs CAP_NET_RAW: run as root or under unshare"),
        ("vf_packet_vnet_hdr", errno.ENOPROTOOPT, "PACKET_VNET_HDR: .*; Linux 4.20 has all"),
        ("vf_packet_ignore_outgoing", errno.ENOPROTOOPT, "PACKET_IGNORE_OUTGOING: .*; Linux 4.20"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "raw"])
def test_what_the_kernel_lacks_is_named(place, monkeypatch, caplog, function, error, text, mode):
    monkeypatch.setattr(shim.lib, function, lambda *_: -error, raising=False)
    port = AfPacketPort("a", mode=mode)
    with place.f.inside(), pytest.raises(PortError, match=text):
        port.open(0, None)
    assert port.descriptors() == []
    assert caplog.text == ""


def test_set_up_and_back(place):
    place.f.run("ip", "link", "set", "dev", "a", "down")
    before = place.f.run("ip", "link", "show", "dev", "a")
    with wire(place, set_up=True, mtu=9000, mac=A_MAC) as w:
        shown = place.f.run("ip", "-d", "link", "show", "dev", "a")
        assert "mtu 9000" in shown
        assert "02:00:00:00:00:0a" in shown
        assert re.search("<.*,UP.*>", shown)
        assert (w.ports[0].mac, w.ports[0].mtu) == (A_MAC, 9000)
    assert place.f.run("ip", "link", "show", "dev", "a") == before
    with (
        place.f.inside(),
        pytest.raises(PortError, match="'a': refuses an MTU of 67"),
    ):
        AfPacketPort("a", set_up=True, mtu=67).open(0, None)
    assert place.f.run("ip", "link", "show", "dev", "a") == before


def test_wrong_interfaces_are_named(place):
    with Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena, place.f.inside():
        pool = Pool(arena, 1024)
        for name in ("nosuch", "", "x" * 16):
            with pytest.raises(PortError, match="no such interface"):
                AfPacketPort(name).open(0, pool)
        with pytest.raises(PortError, match=r"'lo'.*not Ethernet"):
            AfPacketPort("lo").open(0, pool)
        place.f.run("ip", "link", "set", "dev", "a", "down")
        port = AfPacketPort("a")
        with pytest.raises(PortError, match="down; run: ip link set dev a up"):
            port.open(0, pool)
        assert port.descriptors() == []
        port.close()
        place.f.run("ip", "link", "set", "dev", "a", "up")
        port.open(0, pool)
        assert len(port.descriptors()) == 1
        port.close()


def test_the_mtu_is_no_more_than_the_interfaces(place, caplog):
    place.f.run("ip", "link", "set", "dev", "a", "mtu", "1400")
    with Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena, place.f.inside():
        pool = Pool(arena, 1024)
        for given, mtu in ((1500, 1400), (1000, 1000), (1400, 1400)):
            port = AfPacketPort("a", mtu=given)
            port.open(0, pool)
            assert port.mtu == mtu
            port.close()
        assert [r.getMessage() for r in caplog.records] == [
            "af_packet port on interface 'a': mtu is the interface's 1400, not 1500"
        ]
        port = AfPacketPort("a", mtu=1450)
        port.open(0, pool)
        port.close()
        place.f.run("ip", "link", "set", "dev", "a", "mtu", "9000")
        port.open(0, pool)
        assert port.mtu == 1450  # what was given counts, not what was found before
        port.close()


def test_statistics_take_the_error_of_an_interface_that_was_down(place):
    """Until it is read, poll returns at once, and a worker that may sleep does not. (recvmmsg reads it.)"""
    with wire(place, keeping=True) as w, place.raw(place.a) as a:
        (fd,) = w.ports[0].descriptors()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        assert poll.poll(0) == []
        place.f.run("ip", "link", "set", "dev", "a", "down")
        place.f.run("ip", "link", "set", "dev", "a", "up")
        w.rounds()
        assert poll.poll(0)[0][1] & select.POLLERR
        w.ports[0].statistics()
        assert poll.poll(0) == []
        until = time.monotonic() + 5
        while not w.held() and time.monotonic() < until:  # the carrier takes a moment
            a.send(bytes(60))
            w.rounds()
        assert w.held()


def test_without_the_capability_it_says_so():
    program = (
        "import uuid\n"
        "from vforward.io.af_packet import AfPacketPort\n"
        "from vforward.errors import PortError\n"
        "import socket\n"
        "name = next(n for _, n in socket.if_nameindex())\n"
        "AfPacketPort._look_up = lambda self: (1, 1500)\n"
        "try:\n"
        "    AfPacketPort(name).open(0, None)\n"
        "except PortError as error:\n"
        "    print(error)\n"
    )
    command = [
        "setpriv",
        "--bounding-set=-net_raw",
        "--inh-caps=-net_raw",
        sys.executable,
        "-c",
        program,
    ]
    if os.geteuid() or not shutil.which("setpriv"):
        pytest.skip("cannot give up a capability here")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "needs CAP_NET_RAW" in done.stdout, done.stderr
