# SPDX-License-Identifier: Apache-2.0
"""Full shared memory and full disks: what cannot start says why; what runs goes on, and says what it lacks.

The daemon has a small file system of its own, in a mount namespace that ends with it.
"""

import contextlib
import shutil
import subprocess
from pathlib import Path

import pytest

from e2e.lab import until
from e2e.process import MADE, command, daemon, refused
from vforward.control.client import Client
from vforward.errors import VforwardError

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare(1)"),
]
MOUNT = 'mount -t tmpfs -o size="$1",mode=0700 none "$2" || exit 77; shift 2; exec "$@"'


def small(place, size):
    """The command that gives another one a file system of this size at place."""
    place.mkdir(mode=0o700, exist_ok=True)
    return ["unshare", "-m", "sh", "-c", MOUNT, "sh", size, place]


def inside(process, place):
    """Where the daemon's file system is for us."""
    return f"/proc/{process.pid}/root{place}"


@pytest.fixture
def file(tmp_path):
    made = tmp_path / "full.toml"
    made.write_text(MADE.format(name="full"))
    return made


@contextlib.contextmanager
def running(file, tmp_path, monkeypatch, size="128M"):
    """A daemon whose arena lies on a small file system; its client, and where that is."""
    place = tmp_path / "small"
    env = {"VFORWARD_RUNTIME_DIR": str(place / "run")}
    with daemon(file, wrap=small(place, size), env=env) as process:
        there = inside(process, place)
        monkeypatch.setenv("VFORWARD_RUNTIME_DIR", f"{there}/run")
        yield process, Client("full"), there


@contextlib.contextmanager
def no_room(there):
    """Meanwhile not a byte is free there."""
    filler = Path(there) / "filler"
    with filler.open("wb", buffering=0) as written, contextlib.suppress(OSError):
        while written.write(bytes(4096)):
            pass
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            filler.unlink()


def sent(client):
    return next(port.tx.packets for port in client.ports() if port.name == "sink")


def goes_on(client):
    before = sent(client)
    until(lambda: sent(client) > before, "nothing is forwarded")


@pytest.mark.parametrize("size", ["1M", "12M"])
def test_no_room_to_start(file, tmp_path, size):
    place = tmp_path / "small"
    said = refused(file, wrap=small(place, size), env={"VFORWARD_RUNTIME_DIR": str(place / "run")})
    assert "segment" in said, said
    assert "No space left on device; free some of" in said, said


def test_memory_that_gets_full(file, tmp_path, monkeypatch):
    """Packets go on; what is told is done as far as there is room, or refused with the reason."""
    with running(file, tmp_path, monkeypatch) as (process, client, there):
        goes_on(client)
        with no_room(there):
            client.add_route("10.9.0.0/16", via="10.0.2.2")
            with pytest.raises(VforwardError, match=r"document 'routes'.*No space left on device"):
                client.routes()
            refusals = 0
            for n in range(40):
                said = client.change_routes(
                    [
                        {"prefix": f"{20 + n}.{k >> 8}.{k & 255}.128/25", "via": "10.0.2.2"}
                        for k in range(4000)
                    ]
                )
                refusals += said["refused"]
                if refusals:
                    assert "No space left on device" in said["problems"][0]["detail"]
                    assert said["problems"][0]["status"] == 409
                    break
            assert refusals, "there was room for all of them"
            goes_on(client)
            assert process.poll() is None
        client.add_route("10.8.0.0/16", via="10.0.2.2")
        rows = client.routes()
        assert {"10.8.0.0/16", "10.9.0.0/16"} <= {row["prefix"] for row in rows.rows}
        goes_on(client)
        process.terminate()
        assert process.wait(20) == 0, process.log.read_text()
    log = process.log.read_text()
    assert "publisher: document 'routes' of arena 'full': No space left on device" in log
    assert "Traceback" not in log


def test_a_capture_file_that_gets_full(tmp_path):
    """A pcap port drops and counts what it cannot write, and what is in the file is whole."""
    place, file = tmp_path / "small", tmp_path / "full.toml"
    text = MADE.format(name="full").replace(
        'type = "null"', f'type = "pcap"\nwrite = "{place}/all.pcap"'
    )
    file.write_text(text)
    with daemon(file, wrap=small(place, "1M")) as process:
        client = Client("full")

        def failed():
            rows = client.errors(everything=True)
            return sum(r.count for r in rows if (r.node, r.reason) == ("sink-tx", "write-failed"))

        until(failed, "no drop is counted")
        more = failed()
        until(lambda: failed() > more, "it does not go on")
        says = next(port.other_end for port in client.ports() if port.name == "sink")
        assert "No space left on device" in says
        assert process.poll() is None
        process.terminate()
        assert process.wait(20) == 0, process.log.read_text()


def test_a_log_without_room(file):
    """Nothing can be written, neither that it forwards nor what is wrong: it forwards all the same."""
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(command("run", file), stdout=full, stderr=full)
    try:
        client = until(lambda: _client(process), "it does not serve", 280)
        goes_on(client)
        process.terminate()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()


def _client(process):
    assert process.poll() is None
    with contextlib.suppress(VforwardError):
        made = Client("full")
        made.about()
        return made
