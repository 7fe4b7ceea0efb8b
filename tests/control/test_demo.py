"""The demo shows what it promises, leaves nothing behind, and says which step failed."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from vforward.control import demo as subject

PROGRAM = "from vforward.control.main import main; main()"
DEMO = [sys.executable, "-c", PROGRAM, "demo"]


def leftovers():
    return {
        path
        for d in ("/dev/shm", tempfile.gettempdir())
        for path in Path(d).glob("vforward-demo-*")
    }


def shown(command, **environment):
    before = leftovers()
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env=os.environ | environment,
    )
    assert leftovers() <= before
    return done.returncode, done.stdout


@pytest.mark.root
@pytest.mark.slow
def test_in_namespaces():
    status, text = shown(DEMO)
    assert status == 0, text
    assert text.count("5 of 5 answered") == 2
    assert re.search(r"Gbit/s; SHA-256 at both ends [0-9a-f]{16}", text)
    assert re.search(r"ip4-rewrite +inner +[\d,]+ +[\d,]+ +\d+\.\d", text)
    assert re.search(
        r"ip4-lookup +rewrite +98 .* 10.1.0.2 > 10.2.0.2 ttl 64 ICMP echo request", text
    )
    assert re.search(r"lan +af_packet", text)
    assert "no namespace, no process, no shared memory" in text
    assert text.endswith("All of it worked.\n")


@pytest.mark.slow
def test_on_files_where_no_namespace_can_be_made():
    status, text = shown(DEMO, PATH="/none")
    assert status == 0, text
    assert "no network namespace can be made here" in text
    assert "10,000 packets with one hop less to live" in text
    assert text.endswith("All of it worked.\n")


@pytest.mark.root
def test_a_user_namespace_stands_in_for_root(monkeypatch):
    """The demo starts itself in one, and only once."""
    ran = []
    monkeypatch.setattr(subject, "may_use_interfaces", lambda: False)
    monkeypatch.setattr(subject, "user_namespace", lambda: ["unshare"])
    monkeypatch.setattr(subject._Demo, "run", lambda self, where: where)

    def run(command, **options):
        ran.append((command[0], command[-1], options["env"][subject.INSIDE]))
        return subprocess.CompletedProcess(command, 7)

    monkeypatch.setattr(subject.subprocess, "run", run)
    assert subject.demo() == 7
    assert ran == [("unshare", "demo", "1")]
    monkeypatch.setenv(subject.INSIDE, "1")
    assert subject.demo() == "files"


def test_a_forwarder_that_does_not_start(monkeypatch, capsys):
    before = leftovers()
    monkeypatch.setattr(subject, "ON_FILES", "[ports.lan]\ntype = 'nonsense'\n")
    assert subject._Demo().run("files") == 1
    text = capsys.readouterr().out
    assert "Failed at step 2, Start the forwarder" in text
    assert "exit status 2" in text
    assert "ports.lan" in text.split("The forwarder's log:")[1]
    assert leftovers() == before


def test_packets_that_are_not_as_they_should_be(monkeypatch, capsys):
    monkeypatch.setattr(subject, "FRAMES", 10)
    monkeypatch.setattr(subject, "routed", lambda number: b"something else")
    assert subject._Demo().run("files") == 1
    text = capsys.readouterr().out
    assert "Failed at step 6, Compare" in text
    assert "wan-out.pcap has not what h1 sent" in text
