# SPDX-License-Identifier: Apache-2.0
"""`vforward run` outside of its interfaces' namespace, and as an ordinary user in one of his own."""

import contextlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

import vforward
from e2e.lab import ping, transfer, until
from e2e.test_daemon import daemon, show
from vforward.control import compile as compiling
from vforward.control import compiled
from vforward.jit import cache

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
CONFIG = """
[forwarder]
name = "e2e"
[ports.lan]
type = "af_packet"
interface = "lan"
netns = "{path}"
set_up = true
mode = "{mode}"
address = "10.1.0.1/24"
[ports.wan]
type = "af_packet"
interface = "wan"
netns = "{path}"
set_up = true
mode = "raw"
address = "10.2.0.1/24"
[ports.host]
type = "tap"
interface = "vf-wan"
netns = "{path}"
queues = 2
host_of = "wan"
"""


@pytest.mark.parametrize(
    ("mode", "receives"),
    [
        ("auto", "by a ring of 16384 slots"),
        ("xdp", "by AF_XDP, copied, 1 queue of 16384 slots, native XDP"),
    ],
)
def test_ports_in_a_namespace_that_the_forwarder_is_not_in(place, tmp_path, mode, receives):
    """Their interfaces are down at first, and afterwards; the host's programs are in there, too."""
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    for port in ("lan", "wan"):
        place.router.run("ip", "link", "set", "dev", port, "down")
    before = place.router.run("ip", "-br", "link")
    place.file = tmp_path / "e2e.toml"
    place.file.write_text(CONFIG.format(path=place.router.path, mode=mode))
    with daemon(place, inside=contextlib.nullcontext()) as process:
        until(lambda: "LOWER_UP" in place.h2.run("ip", "link", "show", "dev", "eth0"), "no carrier")
        assert "5 received" in ping(place.h1, H2, "-c5", "-i0.2")
        assert "5 received" in ping(place.h2, WAN, "-c5", "-i0.2")
        transfer(place.h1, place.h2, H2, 5_000_000)
        said = show("show", "ports", "-n", "e2e")
        assert f"lan: receives {receives}" in said
        assert 'wan: receives by recvmmsg (mode = "raw")' in said
        assert "host: frames from the host by queue: " in said
        assert "inet 10.2.0.1/24" in place.router.run("ip", "address", "show", "dev", "vf-wan")
        process.terminate()
        assert process.wait(20) == 0, process.log.read_text()
    assert place.router.run("ip", "-br", "link") == before


INSIDE = """
import contextlib, sys
from pathlib import Path
from e2e.lab import Routed, lab, ping, transfer
assert Path("/proc/self/uid_map").read_text().split()[1] == sys.argv[1], "not that user's"
for mode in ("ring", "raw"):
    with lab() as place, contextlib.closing(Routed(place, name="e2e")) as made:
        place.address("10.1.0.2/24", "10.2.0.2/24")
        place.default_routes("10.1.0.1", "10.2.0.1")
        made.port("lan", "10.1.0.1/24", set_up=True, mode=mode)
        made.port("wan", "10.2.0.1/24", mode=mode)
        made.start()
        print(ping(place.h1, "10.2.0.2", "-c5", "-i0.2"))
        transfer(place.h1, place.h2, "10.2.0.2", 20_000_000)
        print([row.other_end for row in made.view.ports()])
"""
"""What an ordinary user does: namespaces, veth pairs and a forwarder; Routed asserts that all is accounted
for."""
NOBODY = 65534


@pytest.mark.timeout(900)  # where his code is compiled anew
def test_an_ordinary_user_in_a_namespace_of_his_own():
    if not os.geteuid() and not shutil.which("setpriv"):
        pytest.skip("no setpriv: apt-get install util-linux")
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are root's alone
        place = Path(directory)
        place.chmod(0o755)
        command, environment = as_ordinary_user(place)
        uid = str(NOBODY if os.geteuid() == 0 else os.geteuid())
        done = subprocess.run(
            [*command, "-c", INSIDE, uid],
            capture_output=True,
            text=True,
            check=False,
            timeout=800,
            cwd=place,
            env=environment,
        )
    if "unshare failed" in done.stderr:
        pytest.skip("no user namespaces here: sysctl kernel.unprivileged_userns_clone")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("5 received") == 2
    assert done.stdout.count("receives by a ring") == done.stdout.count("receives by recvmmsg") == 2


def as_ordinary_user(place, capabilities=()):
    """The beginning of a command line that starts Python as one, and its environment: in namespaces of his
    own, or, with capabilities, in ours (root does that).

    Root's files may be for root alone: he sees Python, its packages, this one and the compiled code in
    place, a directory of his, in a mount namespace that ends with the command.
    """
    if not compiled.is_complete():  # else he would compile it, and nobody keep it
        compiling.compile_all()
    home = place / "home"
    home.mkdir()
    shutil.copytree(cache.directory(), home / cache.directory().name)
    parts = {
        "python": Path(sys.base_prefix),
        "packages": Path(sysconfig.get_path("purelib")),
        "src": Path(vforward.__file__).parents[1],
        "tests": Path(__file__).parents[1],
    }
    environment = {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "VFORWARD_CACHE_DIR": str(home),
        "VFORWARD_RUNTIME_DIR": str(home / "runtime"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if os.geteuid():
        environment["PYTHONPATH"] = os.pathsep.join(str(parts[n]) for n in ("src", "tests"))
        return ["unshare", "-Urn", sys.executable], environment
    for root, _, files in os.walk(home):
        for path in (root, *(Path(root, file) for file in files)):
            os.chown(path, NOBODY, NOBODY)
    mounts = []
    for name, path in parts.items():
        (place / name).mkdir()
        mounts.append(f"mount --bind '{path}' '{place / name}'")
    environment["PYTHONHOME"] = str(place / "python")
    environment["LD_LIBRARY_PATH"] = str(
        place / "python" / "lib"
    )  # else another libpython is found
    environment["PYTHONPATH"] = os.pathsep.join(
        str(place / n) for n in ("src", "tests", "packages")
    )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    names = ",".join(["-all", *(f"+{name}" for name in capabilities)])
    user = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --inh-caps={names}"
    user += f" --ambient-caps={names} --bounding-set={names}" if capabilities else " unshare -Urn"
    script = " && ".join([*mounts, f"exec {user} '{place}/python/bin/{version}' \"$@\""])
    return ["unshare", "-m", "sh", "-c", script, "sh"], environment
