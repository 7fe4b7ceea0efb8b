# SPDX-License-Identifier: Apache-2.0
"""Ethtool: queues and VLAN tags, held against what the command ethtool shows."""

import os
import re
import shutil
import socket

import pytest

from vforward.io.ethtool import Ethtool, queues_of
from vforward.testing.namespaces import namespaces, veth

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(
        not shutil.which("ethtool", path="/usr/sbin:/sbin:/usr/bin"), reason="no ethtool"
    ),
]


@pytest.fixture
def place():
    """A namespace with the interfaces near (veth) and dummy."""
    with namespaces("f", "b") as (f, b):
        veth(f, "near", b, "eth0")
        f.run("ip", "link", "add", "name", "bridge", "type", "bridge")
        with f.inside():
            yield f


def test_queues(place):
    index = socket.if_nametoindex("near")
    assert queues_of("near", index) == (1, 1, "noqueue")
    if (os.cpu_count() or 1) > 1:
        place.run("ethtool", "-L", "near", "tx", "1", "rx", "2")
        assert queues_of("near", index) == (2, 1, "noqueue")
        place.run("ethtool", "-L", "near", "tx", "2", "rx", "1")
        assert queues_of("near", index) == (1, 2, "noqueue")


def test_a_driver_that_does_not_say(place):
    """Then the kernel does, by rtnetlink."""
    ethtool = Ethtool("bridge")
    assert ethtool.channels() == (0, 0)
    ethtool.close()
    ethtool.close()
    assert queues_of("bridge", socket.if_nametoindex("bridge"))[:2] == (1, 1)


def taken(place, name):
    return re.search(r"rx-vlan-offload: (\w+)", place.run("ethtool", "-k", name))[1] == "on"


def test_tags_are_taken_or_left(place):
    ethtool = Ethtool("near")
    assert taken(place, "near")
    assert [ethtool.set_tags_taken(wanted) for wanted in (True, False, False)] == [
        False,
        True,
        False,
    ]
    assert not taken(place, "near")
    assert ethtool.set_tags_taken(True)
    assert taken(place, "near")
    ethtool.close()


def test_no_such_interface():
    ethtool = Ethtool("no-such")
    for ask in (ethtool.channels, lambda: ethtool.set_tags_taken(True)):
        with pytest.raises(OSError, match="No such device"):
            ask()
    ethtool.close()
