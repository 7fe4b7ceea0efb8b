# SPDX-License-Identifier: Apache-2.0
"""Who holds an interface: one at a time in a namespace, and nobody after the holder's end."""

import os
import socket
import subprocess
import sys

import pytest

from vforward.io import claim
from vforward.testing.namespaces import namespaces

NAME = f"t{os.getpid() % 10**9}"


def test_one_at_a_time():
    with claim.take(NAME):
        with pytest.raises(claim.Held) as caught:
            claim.take(NAME)
        assert caught.value.process == os.getpid()
        with claim.take(f"{NAME}x"):
            pass
    with claim.take(NAME):
        pass


HOLDS = """
import sys
from vforward.io import claim
held = claim.take(sys.argv[1])
print(flush=True)
input()
"""


def test_a_killed_one_holds_nothing():
    command = [sys.executable, "-c", HOLDS, NAME]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(claim.Held) as caught:
            claim.take(NAME)
        assert caught.value.process == other.pid
        other.kill()
        other.wait()
    with claim.take(NAME):
        pass


@pytest.mark.parametrize("listens", [False, True])
def test_strangers_keep_nobody_out(monkeypatch, caplog, listens):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.bind(f"\0vforward/interface/{NAME}")
        if listens:
            other.listen()
            monkeypatch.setattr(claim, "_holder", lambda name: (77, os.geteuid() + 1))
        with claim.take(NAME):
            pass
    assert "is not heeded" in caplog.text


@pytest.mark.root
def test_each_namespace_has_its_own():
    with namespaces("one", "other") as (one, other):
        with one.inside():
            first = claim.take("eth0")
        with first, other.inside(), claim.take("eth0"), one.inside(), pytest.raises(claim.Held):
            claim.take("eth0")
