# SPDX-License-Identifier: Apache-2.0
"""`vforward run` while clocks jump: the wall clock as it runs, the monotonic one between two processes.

The wall clock is the process's own (wall_clock.c), so that the machine's stays. The other one is the
kernel's, in a time namespace, as where a daemon is started again in another container. What has to hold:
sessions last as long as they should, no longer and no shorter, and packets pass.
"""

import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest

from e2e.lab import LONG, udp_pair, until
from e2e.process import daemon
from e2e.talk import Talk
from vforward.control.client import Client

pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler"),
]

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
NAME = "clocks"
IDLE_S = 90
"""After which a session ends that has no packets."""
YEAR = 365 * 86400
CONFIG = f"""
[forwarder]
name = "{NAME}"
buffers = 4096
[log]
level = "info"
[ports.lan]
type = "af_packet"
interface = "lan"
address = "{LAN}/24"
[ports.wan]
type = "af_packet"
interface = "wan"
address = "{WAN}/24"
[firewall]
default = "deny"
timeouts = {{udp = {IDLE_S}, udp_unreplied = {IDLE_S}}}
[[rules]]
name = "out"
action = "permit"
in = "lan"
protocol = "udp"
[[nat]]
type = "masquerade"
out = "wan"
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    made = tmp_path_factory.mktemp("clock") / "wall_clock.so"
    source = Path(__file__).with_name("wall_clock.c")
    subprocess.run(
        ["cc", "-Wall", "-Werror", "-O1", "-shared", "-fPIC", "-o", made, source], check=True
    )
    return made


@pytest.fixture
def net(place, tmp_path):
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    place.file = tmp_path / "clocks.toml"
    place.file.write_text(CONFIG)
    return place


def captured_at(client):
    """What the daemon's wall clock said when it sent a packet, seconds since 1970."""
    with client.capture("wan", "udp", count=1) as pieces:
        content = b"".join(pieces)
    return struct.unpack_from("=I", content, 24)[0]


def lives(client, oldest):
    """The one session is there, and has an age that makes sense, which is returned. So is its neighbor."""
    (session,) = client.sessions().rows
    assert oldest <= session["age"] < 600
    assert session["idle"] < IDLE_S
    states = {row["address"]: row["state"] for row in client.neighbors().rows}
    assert states[H2] != "failed"
    return session["age"]


def ends(client, file):
    """The session stays when nothing comes, and ends when that has been so for long enough."""
    assert client.sessions().rows, "it was ended at once"
    file.write_text(CONFIG.replace(f"= {IDLE_S}", "= 2"))
    client.apply(file)
    until(lambda: not client.sessions().rows, "it is immortal")


def end(process):
    process.terminate()
    assert process.wait(LONG) == 0
    assert "Traceback" not in process.log.read_text()


def test_the_wall_clock_jumps(net, library, tmp_path):
    clock = tmp_path / "clock"
    clock.write_bytes(bytes(8))
    env = {"LD_PRELOAD": str(library), "VFORWARD_TEST_CLOCK": str(clock)}
    with (
        daemon(net.file, inside=net.router.inside(), env=env) as process,
        udp_pair(net.h1, net.h2, H2) as (one, other),
    ):
        client = Client(NAME)
        with Talk(one, other) as talk:
            talk.goes_on()
            oldest = lives(client, 0)
            for ahead in (10 * YEAR, -20 * YEAR, 0, 3600, -3600, 50 * YEAR):
                with clock.open("r+b") as file:
                    file.write(struct.pack("=q", ahead))
                talk.goes_on()
                assert abs(captured_at(client) - ahead - time.time()) < 600, "it has that clock"
                oldest = lives(client, oldest)
            assert len(talk.sources) == 1, "another session was begun"
        ends(client, net.file)
        end(process)


def can_shift():
    done = subprocess.run(
        ["unshare", "--time", "--monotonic", "1000", "true"], capture_output=True, check=False
    )
    return done.returncode == 0


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs unshare")
def test_another_process_has_another_monotonic_clock(net):
    """Killed, and started where the clock is a year ahead, or begins anew: it takes the session over."""
    if not can_shift():
        pytest.skip("needs time namespaces")
    back = 100 - int(time.clock_gettime(time.CLOCK_MONOTONIC))
    oldest = 0
    with udp_pair(net.h1, net.h2, H2) as pair, Talk(*pair) as talk:
        for turn, ahead in enumerate((0, YEAR, back)):
            wrap = ("unshare", "--time", "--monotonic", ahead)
            log = net.file.with_suffix(f".{turn}")
            inside = net.router.inside()
            with daemon(net.file, inside=inside, wrap=wrap, fresh=not turn, log=log) as process:
                assert monotonic_of(process.pid) == ahead
                client = Client(NAME)
                talk.goes_on()
                assert bool(turn) == (", 1 sessions" in log.read_text())
                oldest = lives(client, oldest)
                if ahead == back:
                    talk.stop()
                    ends(client, net.file)
                    end(process)
        assert len(talk.sources) == 1, "another session was begun"


def monotonic_of(pid):
    """How far its monotonic clock is ahead of the machine's, seconds."""
    offsets = Path(f"/proc/{pid}/timens_offsets").read_text().splitlines()
    return next(int(line.split()[1]) for line in offsets if line.startswith("monotonic"))
