# SPDX-License-Identifier: Apache-2.0
"""XdpSocket: its memory, rings and bind(2), and what it says where the kernel refuses one of these."""

import ctypes
import re
import socket
from pathlib import Path

import numpy as np
import pytest

from fuzzing import open_fds
from vforward.io import af_xdp_socket as xsk
from vforward.io import af_xdp_tx as tx
from vforward.io.af_xdp_socket import Refused, XdpSocket
from vforward.testing.namespaces import namespaces, veth

pytestmark = pytest.mark.root

HEADER = Path("/usr/include/linux/if_xdp.h")


@pytest.fixture
def place():
    """A namespace with an interface near, joined to another one's."""
    with namespaces("f", "b") as (f, b):
        veth(f, "near", b, "eth0")
        with f.inside():
            yield f, socket.if_nametoindex("near")


def word(where):
    return ctypes.c_uint32.from_address(where).value


@pytest.mark.parametrize("send", [False, True])
@pytest.mark.parametrize(("receive", "slot"), [(0, 2048), (64, 2048), (1024, 4096)])
def test_the_kernel_has_all_slots_to_receive_in(place, send, receive, slot):
    if not (send or receive):
        return
    made = XdpSocket(send=send, receive=receive, slot=slot)
    made.bind(place[1])
    first = tx.SLOTS * tx.SLOT if send else 0
    assert (made.first, made.size) == (first, first + receive * slot)
    assert made.memory % 4096 == 0
    if receive:
        assert word(made.filled.producer) == receive
        entries = (ctypes.c_uint64 * receive).from_address(made.filled.entries)
        assert list(entries) == [first + n * slot for n in range(receive)]
        assert word(made.received.producer) == word(made.received.consumer) == 0
    assert made.statistics() == (0,) * 6
    assert not made.zero_copy
    made.close()
    made.close()


def test_without_copies_where_the_driver_can_and_copied_elsewhere(place):
    """veth cannot."""
    made = XdpSocket(receive=64)
    made.bind(place[1], native=True)
    assert not made.zero_copy
    made.close()


def test_a_taken_queue_is_refused(place):
    first, second = (XdpSocket(receive=64) for _ in range(2))
    first.bind(place[1])
    with pytest.raises(Refused, match="another program has an AF_XDP socket on the interface"):
        second.bind(place[1])
    first.close()
    second.bind(place[1])  # though the kernel lets go of it a moment later
    second.close()


def test_no_such_queue_or_interface(place):
    for index, queue in ((place[1], 64), (9999, 0)):
        made = XdpSocket(receive=64)
        with pytest.raises(Refused, match=r"^bind: "):
            made.bind(index, queue, native=True)
        made.close()


def test_what_cannot_be_made_leaves_nothing(place, monkeypatch):
    before = open_fds()
    with pytest.raises(Refused, match=r"^memory: Invalid argument"):
        XdpSocket(receive=64, slot=1000)
    monkeypatch.setattr(xsk, "AF_XDP", 200)
    with pytest.raises(Refused, match=r"^the kernel has no AF_XDP \(CONFIG_XDP_SOCKETS\)"):
        XdpSocket(receive=64)
    assert open_fds() <= before


def test_its_memory_is_its_own(place):
    """And can be written."""
    one, other = (XdpSocket(receive=64) for _ in range(2))
    for made in (one, other):
        memory = np.frombuffer((ctypes.c_uint8 * made.size).from_address(made.memory), np.uint8)
        assert not memory.any()
        memory[:] = 1
    one.close()
    other.close()


def test_numbers_are_those_of_the_header():
    """linux/if_xdp.h; Debian 12's is older than XDP_MAX_TX_BUDGET."""
    if not HEADER.exists():
        pytest.skip(f"no {HEADER}")
    words = r"^#define\s+(\w+)\s+\(?([0-9a-fA-FxUL]+)(?:\s*<<\s*(\d+))?\)?"
    found = re.findall(words, HEADER.read_text(), re.MULTILINE)
    theirs = {name: int(value.rstrip("UL"), 0) << int(shift or 0) for name, value, shift in found}
    ours = {name: value for name, value in vars(xsk).items() if name.startswith("XDP_")}
    ours = {name: value for name, value in ours.items() if isinstance(value, int)}
    if "XDP_MAX_TX_BUDGET" not in theirs:
        del ours["XDP_MAX_TX_BUDGET"]
    assert len(ours) >= 12
    assert ours == {name: theirs.get(name) for name in ours}
