# SPDX-License-Identifier: Apache-2.0
"""Namespaces: apart from each other, joined by veth pairs, gone at the end."""

import os
import select
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from vforward.testing.namespaces import available, namespaces, offloads, veth

pytestmark = pytest.mark.root


def links(text):
    return [line.split()[1].rstrip(":").split("@")[0] for line in text.splitlines()]


def test_available_here():
    assert available()


def test_a_pair_carries_ping():
    with namespaces("one", "other") as (one, other):
        veth(one, "eth0", other, "lan0")
        one.address("eth0", "10.0.0.1/24")
        other.address("lan0", "10.0.0.2/24", "10.0.0.3/24")
        assert "1 received" in one.run("ping", "-c1", "-W2", "10.0.0.3")
        assert links(one.run("ip", "-o", "link")) == ["lo", "eth0"]
        assert links(other.run("ip", "-o", "link")) == ["lo", "lan0"]


def test_inside_is_for_the_thread_and_ends():
    before = socket.if_nameindex()
    with namespaces("one") as (one,):
        with one.inside():
            assert socket.if_nameindex() == [(1, "lo")]
            left_over = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        assert socket.if_nameindex() == before
        with pytest.raises(ZeroDivisionError), one.inside():
            raise ZeroDivisionError
        assert socket.if_nameindex() == before
    left_over.close()


def test_failures_say_what_was_said():
    with namespaces("one") as (one,):
        with pytest.raises(RuntimeError, match=r"in namespace one: ip link .*nosuch"):
            one.run("ip", "link", "set", "nosuch", "up")
        assert "nosuch" in one.run("ip", "link", "set", "nosuch", "up", check=False)


def test_ipv6_is_off_unless_wanted():
    for wanted in (False, True):
        with namespaces("one", "other", ipv6=wanted) as (one, other):
            veth(one, "eth0", other, "eth0")
            assert ("fe80" in one.run("ip", "-6", "address", "show", "dev", "eth0")) == wanted


def test_offloads_switch():
    with namespaces("one", "other") as (one, other):
        veth(one, "eth0", other, "eth0")
        for on in (False, True):
            try:
                offloads(one, "eth0", on=on)
            except RuntimeError as error:
                if "ethtool" in str(error) and "No such file" in str(error):
                    pytest.skip("no ethtool")
                raise
            text = one.run("ethtool", "-k", "eth0")
            assert f"tcp-segmentation-offload: {'on' if on else 'off'}" in text


def test_removed_at_the_end():
    with namespaces("one") as (one,):
        pid = one.pid
        assert Path(f"/proc/{pid}/ns/net").exists()
    assert not Path(f"/proc/{pid}").exists()


def test_removed_when_the_maker_is_killed():
    program = (
        "import os, sys\n"
        "from vforward.testing.namespaces import namespaces\n"
        "with namespaces('one') as (one,):\n"
        "    print(one.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    maker = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
    assert maker.returncode == -9
    try:
        holder = os.pidfd_open(int(maker.stdout))
    except ProcessLookupError:
        return
    with open(holder) as file:  # noqa: PTH123 a descriptor, not a path
        assert select.select([file], [], [], 10)[0], "the holder outlived its maker"


def test_works_in_a_user_namespace():
    program = (
        "from vforward.testing.namespaces import namespaces, veth\n"
        "with namespaces('one', 'other') as (one, other):\n"
        "    veth(one, 'eth0', other, 'lan0')\n"
        "    one.address('eth0', '10.0.0.1/24')\n"
        "    other.address('lan0', '10.0.0.2/24')\n"
        "    with one.inside():\n"
        "        import socket\n"
        "        socket.create_server(('10.0.0.1', 0)).close()\n"
        "    print(one.run('ip', 'address'))\n"
    )
    command = ["unshare", "-Urn", sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    if "unshare failed" in done.stderr and "/proc" not in done.stderr:
        pytest.skip("no user namespaces here")
    assert "10.0.0.1/24" in done.stdout, done.stderr
