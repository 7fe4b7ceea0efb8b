# SPDX-License-Identifier: Apache-2.0
"""Giving up capabilities: in processes of their own, since it is for good."""

import errno
import json
import os
import subprocess
import sys

import pytest

from vforward.errors import VforwardError
from vforward.io import capabilities, shim

ADMIN, RAW, BPF, SYS_ADMIN, SETPCAP = 1 << 12, 1 << 13, 1 << 39, 1 << 21, 1 << 8
MINE = capabilities.threads()[0]
ROOT = pytest.mark.skipif(
    (ADMIN | RAW | SYS_ADMIN) & ~MINE.permitted != 0, reason="needs root's capabilities"
)

PROGRAM = """
import dataclasses, json, os, select, socket, sys, threading, time
import numpy  # which starts threads of its own
from vforward.io import capabilities

done = threading.Event()
pipe = os.pipe()
def waits(): done.wait()
def polls(): poll = select.poll(); poll.register(pipe[0], select.POLLIN); poll.poll()
def reads(): os.read(pipe[0], 1)
def spins():
    while not done.is_set():
        pass
def starts():  # threads that have capabilities when they begin
    while not done.is_set():
        thread = threading.Thread(target=time.sleep, args=(0.001,))
        thread.start()
        thread.join()
for what in (waits, polls, reads, spins, starts):
    threading.Thread(target=what, daemon=True).start()
capabilities.drop(sys.argv[1:])
found = [dataclasses.asdict(thread) for thread in capabilities.threads()]
after = []
thread = threading.Thread(target=lambda: after.extend(capabilities.threads()))
thread.start()
thread.join()
found += [dataclasses.asdict(thread) for thread in after]
def allowed(*kind):
    try:
        socket.socket(*kind).close()
    except PermissionError:
        return False
    return True
print(json.dumps({"threads": found, "raw": allowed(socket.AF_PACKET, socket.SOCK_RAW)}))
done.set()
os._exit(0)
"""


def dropped(*keep, before=()):
    command = [*before, sys.executable, "-c", PROGRAM, *keep]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@ROOT
@pytest.mark.parametrize(
    ("keep", "kept"),
    [((), 0), (("net_admin", "net_raw"), ADMIN | RAW), (("bpf", "net_raw"), BPF | RAW)],
)
def test_no_thread_has_more_than_is_kept(keep, kept):
    found = dropped(*keep)
    assert len(found["threads"]) > 10
    for thread in found["threads"]:
        assert thread["permitted"] == thread["effective"] == kept & MINE.permitted
        assert thread["inheritable"] == thread["ambient"] == 0
        assert thread["bounding"] == (0 if MINE.permitted & SETPCAP else MINE.bounding)
        assert thread["no_new_privs"]
    assert found["raw"] == bool(kept & RAW)


def test_without_any_there_is_nothing_to_give_up_and_it_works():
    user = ["setpriv", "--reuid", "65534", "--clear-groups"] if os.geteuid() == 0 else []
    if user and MINE.permitted & (1 << 7) == 0:
        pytest.skip("may not become another user")
    found = dropped("net_raw", before=user)
    assert all(t["permitted"] == 0 and t["no_new_privs"] for t in found["threads"])
    assert not found["raw"]


@ROOT
def test_a_user_with_ambient_ones_keeps_them_but_not_for_others():
    both = "+net_admin,+net_raw"
    user = [
        "setpriv",
        "--reuid",
        "65534",
        "--clear-groups",
        "--inh-caps",
        both,
        "--ambient-caps",
        both,
    ]
    found = dropped("net_admin", "net_raw", before=user)
    for thread in found["threads"]:
        assert thread["permitted"] == thread["effective"] == ADMIN | RAW
        assert thread["inheritable"] == thread["ambient"] == 0
    assert found["raw"]


def test_names_and_numbers():
    assert capabilities.mask(()) == 0
    assert capabilities.mask(("net_raw", "net_admin", "net_raw")) == RAW | ADMIN
    assert capabilities.mask(("bpf",)) == BPF


def test_threads_are_those_of_the_process():
    assert os.getpid() in [thread.tid for thread in capabilities.threads()]


def test_what_is_told_of_a_thread(tmp_path):
    (tmp_path / "17").mkdir()
    (tmp_path / "18").mkdir()  # has ended
    sets = {"Inh": 1, "Prm": 2, "Eff": 4, "Bnd": 8, "Amb": 16}
    lines = [f"Cap{name}:\t{value:016x}" for name, value in sets.items()]
    (tmp_path / "17/status").write_text(
        "\n".join(["Name:\tx", *lines, "NoNewPrivs:\t1", "Seccomp:\t2"])
    )
    (thread,) = capabilities.threads(tmp_path)
    assert thread == capabilities.Thread(17, 2, 4, 1, 16, 8, no_new_privs=True, seccomp=2)


class Lib:
    """A shim by which one thread never gives up anything."""

    def __init__(self, answer):
        self.answer = answer

    def vf_privilege_drop(self, keep):
        return 0

    def vf_privilege_drop_in(self, tid, keep):
        return self.answer


@pytest.mark.parametrize(
    ("answer", "says"),
    [(-errno.ETIMEDOUT, "timed out"), (-errno.ESRCH, "new threads again and again")],
)
def test_a_thread_that_keeps_them_is_an_error(monkeypatch, answer, says):
    stubborn = capabilities.Thread(1, RAW, RAW, 0, 0, 0, no_new_privs=True, seccomp=0)
    monkeypatch.setattr(capabilities, "threads", lambda: [stubborn])
    monkeypatch.setattr(shim, "lib", Lib(answer))
    with pytest.raises(VforwardError, match=f"cannot be given up: (Connection |.*)?{says}"):
        capabilities.drop(())
    capabilities.drop(("net_raw",))
