# SPDX-License-Identifier: Apache-2.0
"""Network namespaces by name and path: what is opened in one stays there, and nobody else moves."""

import socket
import subprocess
from pathlib import Path

import pytest

from vforward.io import netns
from vforward.testing.namespaces import namespaces

pytestmark = pytest.mark.root


@pytest.fixture
def place():
    with namespaces("there") as (there,):
        there.run("ip", "link", "add", "only-here", "type", "veth", "peer", "name", "other")
        yield there


def names():
    return {name for _, name in socket.if_nameindex()}


def mine():
    return Path("/proc/thread-self/ns/net").readlink()


def test_what_is_called_is_in_the_namespace_and_the_caller_is_not(place):
    before = mine()
    assert netns.call("", names) == names()
    assert "only-here" in netns.call(place.path, names)
    assert "only-here" not in names()
    assert mine() == before


def test_a_socket_stays_there(place):
    opened = netns.call(place.path, lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    with opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"only-here")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here, pytest.raises(OSError):
        here.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"only-here")


def test_a_name_is_that_of_a_file(place, tmp_path, monkeypatch):
    monkeypatch.setattr(netns, "NAMED", tmp_path)
    (tmp_path / "blue").symlink_to(place.path)
    assert "only-here" in netns.call("blue", names)
    assert netns.path_of("blue") == tmp_path / "blue"
    assert str(netns.path_of("/proc/1/ns/net")) == "/proc/1/ns/net"


def test_what_a_user_is_told_to_type_works(place, tmp_path):
    assert netns.ip_command("") == "ip"
    assert netns.ip_command("blue") == "ip -n blue"
    command = f"{netns.ip_command(place.path)} link show dev only-here"
    assert (
        "only-here"
        in subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
    )


def test_an_error_inside_comes_out(place):
    with pytest.raises(ZeroDivisionError):
        netns.call(place.path, lambda: 1 // 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no-such", "there is no /run/netns/no-such; ip netns list shows"),
        ("/no/such", "there is no /no/such"),
        ("/proc/self/ns/uts", "/proc/self/ns/uts is not one"),
        ("/etc/hostname", "/etc/hostname is not one"),
    ],
)
def test_what_cannot_be_entered_is_named(name, text):
    with pytest.raises(OSError, match=rf"network namespace '{name}': {text}") as caught:
        netns.call(name, names)
    assert caught.value.errno is None  # the text says it all, and no advice of others' replaces it


def test_without_the_capability(monkeypatch):
    def refused(_descriptor):
        raise PermissionError(1, "setns: Operation not permitted")

    monkeypatch.setattr(netns, "enter_descriptor", refused)
    with pytest.raises(OSError, match="needs CAP_SYS_ADMIN, here and in it: run as root"):
        netns.call("/proc/self/ns/net", names)
