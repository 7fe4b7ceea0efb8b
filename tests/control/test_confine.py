# SPDX-License-Identifier: Apache-2.0
"""What is kept for which configuration; what happens where it cannot be given up. e2e/test_confined.py
does it.
"""

import logging
import resource

import pytest

from configs import BARE, port
from vforward.control import config, confine
from vforward.errors import VforwardError
from vforward.io import capabilities, seccomp, shim

BOTH = {"net_admin", "net_raw"}
TOKEN = "0123456789abcdef"


def parsed(text, tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    return config.parse(text, str(tmp_path / "r.toml"))


def af_packet(more=""):
    return port("p", f'interface = "eth0"{more}', "af_packet")


def listening(port):
    return f'api = {{listen = "127.0.0.1:{port}", token_file = "token"}}\n'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (BARE, BOTH),
        (af_packet(), BOTH),
        (af_packet(', mode = "xdp"'), BOTH | {"bpf"}),
        (BARE + listening(8080), BOTH),
        (BARE + listening(443), BOTH | {"net_bind_service"}),
        (af_packet(', mode = "xdp"') + "privilege = {keep = []}\n", set()),
        (BARE + 'privilege = {keep = ["sys_admin", "sys_admin"]}\n', {"sys_admin"}),
    ],
)
def test_what_is_kept(text, names, tmp_path):
    assert confine.kept(parsed(text, tmp_path)) == names


@pytest.fixture
def given_up(monkeypatch):
    """What would be, in order."""
    done = []
    monkeypatch.setattr(shim, "built", lambda: True)
    monkeypatch.setattr(capabilities, "drop", lambda keep: done.append(set(keep)))
    monkeypatch.setattr(seccomp, "install", lambda allowed: done.append(("filter", set(allowed))))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    return done


@pytest.mark.parametrize(("keep", "more"), [("", {"ipc_lock"}), ("keep = []", set())])
def test_where_the_limit_cannot_be_raised_memory_is_locked_by_a_capability(
    given_up, monkeypatch, tmp_path, keep, more
):
    limits = []

    def setrlimit(_, limit):
        limits.append(limit)
        if limit[1] == resource.RLIM_INFINITY:
            msg = "not allowed to raise maximum limit"
            raise ValueError(msg)

    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 200))
    wanted = parsed(BARE + f"[privilege]\n{keep}\n", tmp_path)
    confine.confine(wanted)
    assert given_up[0] == confine.kept(wanted) | more
    assert limits == [(resource.RLIM_INFINITY,) * 2, (200, 200)]


@pytest.mark.parametrize(
    ("keep", "allowed"),
    [("", set()), ('keep = ["bpf"]', {"bpf"}), ('keep = ["sys_admin"]', {"bpf", "setns"})],
)
def test_capabilities_first_and_then_the_filter(given_up, keep, allowed, tmp_path):
    wanted = parsed(BARE + f"[privilege]\n{keep}\n", tmp_path)
    confine.confine(wanted, lambda: given_up.append("others"))
    assert given_up == [confine.kept(wanted), "others", ("filter", allowed)]


def test_the_filter_may_be_left_out(given_up, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        confine.confine(parsed(BARE + '[privilege]\nseccomp = "off"\n', tmp_path))
    assert given_up == [BOTH]
    assert "than: net_admin, net_raw; all system calls are allowed" in caplog.text


def fails(*_):
    msg = "seccomp: this kernel has none"
    raise VforwardError(msg)


def test_where_there_is_no_filter_it_is_said_or_required(given_up, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(seccomp, "install", fails)
    confine.confine(parsed(BARE, tmp_path))
    assert "this kernel has none" in caplog.text
    with pytest.raises(VforwardError, match="this kernel has none"):
        confine.confine(parsed(BARE + '[privilege]\nseccomp = "require"\n', tmp_path))


def test_capabilities_that_stay_are_an_error(given_up, tmp_path, monkeypatch):
    monkeypatch.setattr(capabilities, "drop", fails)
    with pytest.raises(VforwardError):
        confine.confine(parsed(BARE, tmp_path))
    assert given_up == []


def test_without_the_shim_nothing_is_given_up_and_that_is_said(
    given_up, tmp_path, monkeypatch, caplog
):
    monkeypatch.setattr(shim, "built", lambda: False)
    confine.confine(parsed(BARE, tmp_path), lambda: given_up.append("others"))
    assert given_up == ["others"]
    assert "no privileges are given up" in caplog.text
