# SPDX-License-Identifier: Apache-2.0
"""Linux's own stack is kept out of an interface, and is there again afterwards."""

import pytest

from vforward.io.own_stack import SETTINGS, OwnStack
from vforward.testing.namespaces import namespaces, veth

pytestmark = pytest.mark.root


@pytest.fixture
def pair():
    with namespaces("host", "router", ipv6=True) as (host, router):
        veth(host, "eth0", router, "lan")
        yield host, router


def settings(where):
    paths = [f"/proc/sys/net/{name.format('lan')}" for name in SETTINGS]
    return [int(value) for value in where.run("cat", *paths).split()]


def test_it_answers_no_longer_and_then_again(pair):
    """The address is on another interface, as a TAP's is."""
    host, router = pair
    host.address("eth0", "10.0.0.2/24")
    router.run("ip", "link", "add", "name", "other", "type", "veth", "peer", "name", "rehto")
    for end in ("other", "rehto"):
        router.run("ip", "link", "set", "dev", end, "up")
    router.address("other", "10.0.0.1/24")
    with router.inside():
        stack = OwnStack("lan")
    asked = ("ping", "-c1", "-W1", "10.0.0.1")
    before = settings(router)
    stack.mute()  # from another namespace
    stack.mute()
    assert settings(router) == [8, 1, 1]
    assert "0 received" in host.run(*asked, check=False)
    assert "lladdr" not in host.run("ip", "neigh", "show", "10.0.0.1")
    stack.close()
    stack.close()
    assert settings(router) == before
    host.run("ip", "neigh", "del", "10.0.0.1", "dev", "eth0", check=False)
    host.run(*asked, check=False)
    assert "lladdr" in host.run("ip", "neigh", "show", "10.0.0.1"), "it answers on any interface"


def test_an_interface_that_is_not_there(pair):
    """Nothing is changed, here or elsewhere."""
    _, router = pair
    before = settings(router)
    with router.inside():
        stack = OwnStack("nothing")
    stack.mute()
    assert settings(router) == before
    stack.close()


def test_one_that_is_deleted_meanwhile(pair):
    _, router = pair
    with router.inside():
        stack = OwnStack("lan")
    stack.mute()
    router.run("ip", "link", "del", "dev", "lan")
    stack.close()
    assert "lan" not in router.run("ip", "link", "show")
