# SPDX-License-Identifier: Apache-2.0
"""`vforward run` killed with -9 at any moment of its life: the next one starts, and nothing is left over.

KILLS of them; VFORWARD_KILLS=50 for more. The moments are spread over the start and the time after it.
"""

import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from e2e.lab import ping, until
from e2e.process import command, daemon

pytestmark = pytest.mark.root

KILLS = int(os.environ.get("VFORWARD_KILLS", "6"))
LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
TAPS = "proto 118"
"""What a TAP's rule of routing is marked by: one that leads nowhere hurts nobody; the next TAP takes it."""
CONFIG = f"""
[forwarder]
name = "kills"
buffers = 4096
[ports.lan]
type = "af_packet"
interface = "lan"
set_up = true
address = "{LAN}/24"
[ports.wan]
type = "af_packet"
interface = "wan"
mode = "xdp"
address = "{WAN}/24"
[ports.host]
type = "tap"
interface = "vf-host"
host_of = "lan"
[ports.guest]
type = "vhost-user"
socket = "PLACE/guest"
[ports.memif]
type = "memif"
socket = "PLACE/memif"
[ports.program]
type = "memring"
trusted = true
[firewall]
default = "permit"
[[nat]]
type = "masquerade"
out = "wan"
"""


@pytest.fixture
def net(place, tmp_path):
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    place.file = tmp_path / "killed.toml"
    place.file.write_text(CONFIG.replace("PLACE", str(tmp_path)))
    return place


def left(net, runtime):
    """What could be left over: interfaces, rules, disciplines, XDP programs in the router's namespace;
    namespaces with a name; whose arenas there are.
    """
    links = net.router.run("ip", "-br", "link")
    found = {
        "links": sorted(line.split()[0].partition("@")[0] for line in links.splitlines()),
        "xdp": "xdp" in net.router.run("ip", "link"),
        "rules": [rule for rule in net.router.run("ip", "rule").splitlines() if TAPS not in rule],
        "taps' rules": [rule for rule in net.router.run("ip", "rule").splitlines() if TAPS in rule],
        "names": net.router.run("ip", "netns", "list"),
        "arenas": sorted(path.name for path in runtime.iterdir()) if runtime.exists() else [],
    }
    if shutil.which("tc"):
        found["disciplines"] = net.router.run("tc", "qdisc", "show")
        found["filters"] = [
            net.router.run("tc", "filter", "show", "dev", dev, "ingress", check=False)
            for dev in ("lan", "wan")
        ]
    return found


def test_killed_at_any_moment(net, runtime):
    before = left(net, runtime)
    with net.router.inside():
        begin = time.monotonic()
        with daemon(net.file) as process:  # how long a start takes here
            took = time.monotonic() - begin
            assert "1 received" in ping(net.h1, H2, "-c1")
            process.terminate()
            assert process.wait(30) == 0
        assert left(net, runtime) == before
        chosen = random.Random(5)
        for n in range(KILLS):
            log = net.file.with_suffix(f".{n}")
            with log.open("wb") as written:
                killed = subprocess.Popen(
                    command("run", net.file), stdout=written, stderr=subprocess.STDOUT
                )
            time.sleep(took * 1.3 * (n + chosen.random()) / KILLS)  # not for anything: a moment
            assert killed.poll() is None, log.read_text()
            killed.send_signal(signal.SIGKILL)
            killed.wait()
        until(lambda: "vf-host" not in net.router.run("ip", "link"), "the TAP stays")
        after = left(net, runtime)
        assert {*after["arenas"]} - {*before["arenas"]} <= {"kills"}
        takes_over = {"arenas": [], "taps' rules": []}
        assert {**after, **takes_over} == {**before, **takes_over}
        with daemon(net.file) as process:
            assert "2 received" in ping(net.h1, H2, "-c2", "-i0.01")
            process.terminate()
            assert process.wait(30) == 0, process.log.read_text()
            assert "Traceback" not in process.log.read_text()
    assert left(net, runtime) == before
