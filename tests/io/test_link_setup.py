# SPDX-License-Identifier: Apache-2.0
"""An interface is set up as a port needs it, by the kernel's word, and then as it was before."""

import contextlib
import errno

import pytest

from vforward.io.link_setup import LinkSetup
from vforward.testing.namespaces import namespaces

pytestmark = pytest.mark.root

MAC, OTHER = bytes.fromhex("020000000077"), bytes.fromhex("020000000078")
BEFORE = bytes.fromhex("020000000001")


@pytest.fixture
def place():
    with namespaces("f") as (f,):
        f.run("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1")
        f.run("ip", "link", "set", "dev", "d0", "address", "02:00:00:00:00:01")
        yield f


def setup(place, name="d0"):
    with place.inside():
        return LinkSetup(name)


def state(place):
    """MAC, MTU, and whether it is set up, as another connection sees it."""
    with contextlib.closing(setup(place)) as seen:
        return seen.link.mac, seen.link.mtu, seen.link.up


def test_what_it_finds_is_what_ip_shows(place):
    with contextlib.closing(setup(place)) as made:
        shown = place.run("ip", "link", "show", "dev", "d0")
        assert shown.startswith(f"{made.link.index}: d0@")
        assert (made.link.mac, made.link.mtu, made.link.up) == (BEFORE, 1500, False)
        assert made.link.kind == 1  # Ethernet
    with contextlib.closing(setup(place, "lo")) as loopback:
        assert (loopback.link.kind, loopback.link.up) == (772, True)


@pytest.mark.parametrize("up", [False, True])
@pytest.mark.parametrize("mac", [None, BEFORE, MAC])
@pytest.mark.parametrize("mtu", [68, 1500, 9000])
def test_it_is_as_asked_and_then_as_before(place, up, mac, mtu):
    if up:
        place.run("ip", "link", "set", "dev", "d0", "up")
    made = setup(place)
    made.set_up(mac, mtu)  # from another namespace
    assert state(place) == (mac or BEFORE, mtu, True)
    assert (made.link.mac, made.link.mtu, made.link.up) == state(place)
    made.close()
    made.close()
    assert state(place) == (BEFORE, 1500, up)


def test_what_others_changed_meanwhile_is_theirs(place):
    made = setup(place)
    made.set_up(MAC, 9000)
    place.run("ip", "link", "set", "dev", "d0", "mtu", "1400")
    place.run("ip", "link", "set", "dev", "d0", "address", "02:00:00:00:00:78")
    made.close()
    assert state(place) == (OTHER, 1400, False)


def test_one_that_was_deleted_and_made_anew_is_left_alone(place):
    made = setup(place)
    made.set_up(MAC, 9000)
    place.run("ip", "link", "delete", "dev", "d0")
    made.close()
    made = setup_anew(place)
    place.run("ip", "link", "delete", "dev", "d0")
    anew(place)
    made.close()
    assert state(place)[1:] == (9000, True)


def anew(place):
    place.run("ip", "link", "add", "d0", "mtu", "9000", "type", "veth", "peer", "name", "d1")
    place.run("ip", "link", "set", "dev", "d0", "up")


def setup_anew(place):
    place.run("ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1")
    made = setup(place)
    made.set_up(None, 9000)
    return made


def test_one_that_was_made_anew_is_set_up_again(place):
    made = setup(place)
    made.set_up(MAC, 9000)
    place.run("ip", "link", "delete", "dev", "d0")
    with pytest.raises(OSError, match="No such device"):
        made.again()
    place.run("ip", "link", "add", "d0", "mtu", "1400", "type", "veth", "peer", "name", "d1")
    made.again()
    new = made.link.mac
    made.set_up(MAC, 9000)
    assert state(place) == (MAC, 9000, True)
    made.again()  # nothing is forgotten of the same one
    made.close()
    assert state(place) == (new, 1400, False)


def test_none_of_that_name(place):
    with pytest.raises(OSError, match="No such device"):
        setup(place, "no-such")


@pytest.mark.parametrize(
    ("mac", "mtu", "text"),
    [
        (None, 10, r"refuses an MTU of 10 \(.*\); ip -d link shows its maxmtu"),
        (None, 70_000, r"refuses an MTU of 70000 "),
        (b"\x01\0\0\0\0\0", 1500, "refuses the MAC: Cannot assign"),
    ],
)
def test_what_it_refuses_is_told_and_the_rest_put_back(place, mac, mtu, text):
    with contextlib.closing(setup(place)) as made, pytest.raises(OSError, match=text):
        made.set_up(mac or MAC, mtu)
    assert state(place) == (BEFORE, 1500, False)


@pytest.mark.parametrize(
    ("what", "error", "text"),
    [
        ("mac", errno.EBUSY, "only while it is down; run: ip link set dev d0 down"),
        ("mac", errno.EPERM, "needs CAP_NET_ADMIN: .* leave out set_up"),
        ("up", errno.ERFKILL, "cannot be set up: rfkill"),
    ],
)
def test_what_veth_does_not_refuse(place, monkeypatch, what, error, text):
    with contextlib.closing(setup(place)) as made:

        def refuse(_index, **changes):
            if what in changes:
                raise OSError(error, "rfkill")

        monkeypatch.setattr(made._netlink, "set_link", refuse)
        with pytest.raises(OSError, match=text):
            made.set_up(MAC, 1500)
        monkeypatch.undo()
