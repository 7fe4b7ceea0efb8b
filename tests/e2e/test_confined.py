"""`vforward run` has given up its privileges: it forwards as before, and can run no program.

What it may still do is tried from inside of it: PROGRAM is the command, with a thread that does what it
is told by its standard input.
"""

import contextlib
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import vforward
from e2e.lab import ping, transfer, until
from e2e.test_netns import as_ordinary_user
from frontends import Frontend
from test_deploy import allowed_calls
from vforward.io import capabilities
from vforward.testing.namespaces import veth

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
RAW_ADMIN = capabilities.mask(("net_raw", "net_admin"))
UNLIMITED = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1] == resource.RLIM_INFINITY
MAY_RAISE = UNLIMITED or capabilities.threads()[0].permitted >> 24 & 1  # CAP_SYS_RESOURCE
KEPT = RAW_ADMIN | (0 if MAY_RAISE else capabilities.mask(("ipc_lock",)))
"""What root keeps of its own: AF_XDP locks memory."""
PROGRAM = """
import os, subprocess, socket, sys, threading

def obey():
    for line in sys.stdin:
        try:
            said = repr(eval(line))
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(int(os.environ["ANSWERS"]), said.encode() + b"\\n")

threading.Thread(target=obey, daemon=True).start()
from vforward.control.main import main
main()
"""
CONFIG = """
[forwarder]
name = "confined"
{more}
[ports.lan]
type = "af_packet"
interface = "lan"
address = "10.1.0.1/24"
{port}
[ports.wan]
type = "af_packet"
interface = "wan"
address = "10.2.0.1/24"
{port}
"""
HOST = '[ports.host]\ntype = "tap"\ninterface = "host0"\nhost_of = "lan"\n'


@pytest.fixture
def net(place):
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    with tempfile.TemporaryDirectory(prefix="vf-") as directory:  # short enough for a socket
        place.directory = Path(directory)
        place.directory.chmod(0o755)
        yield place


class Daemon:
    """The process. do: what the thread inside answers."""

    def __init__(self, process, answers, log):
        self.process, self._answers, self.log = process, answers, log

    def do(self, code):
        self.process.stdin.write(code.encode() + b"\n")
        self.process.stdin.flush()
        return self._answers.readline().decode().strip()

    @property
    def tasks(self):
        return Path(f"/proc/{self.process.pid}/task")

    def threads(self):
        return capabilities.threads(self.tasks)

    def children(self):
        return [
            pid for task in self.tasks.iterdir() for pid in (task / "children").read_text().split()
        ]


@contextlib.contextmanager
def daemon(net, more="", port="", ports="", python=(sys.executable,), environment=None):
    file, log = net.directory / "confined.toml", net.directory / "log"
    file.write_text(CONFIG.format(more=more, port=port) + ports)
    read, write = os.pipe()
    command = [*python, "-c", PROGRAM, "run", str(file)]
    with log.open("wb") as written, net.router.inside():
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=written,
            stderr=subprocess.STDOUT,
            pass_fds=[write],
            env=(environment or os.environ) | {"ANSWERS": str(write)},
            cwd=net.directory,
        )
    os.close(write)
    with os.fdopen(read, "rb") as answers:
        try:
            until(
                lambda: "forwarding:" in log.read_text() or process.poll() is not None,
                log.read_text,
                280,
            )
            assert process.poll() is None, log.read_text()
            yield Daemon(process, answers, log)
            process.terminate()
            assert process.wait(30) == 0, log.read_text()
            assert "Traceback" not in log.read_text()
        finally:
            process.kill()
            process.wait()
            process.stdin.close()


TRIES = {
    "os.execv('/bin/true', ['true'])": "PermissionError: [Errno 1] Operation not permitted",
    "subprocess.run(['/bin/true'])": "PermissionError: [Errno 1] Operation not permitted: '/bin/true'",
    "os.posix_spawn('/bin/true', ['true'], {})": "PermissionError: [Errno 1] Operation not permitted",
    "os.waitpid(os.fork() or os._exit(7), 0)[1]": str(7 << 8),
    "threading.Thread(target=int).start()": "None",
}


@pytest.mark.parametrize(
    ("more", "kept", "raw"),
    [("", KEPT, "None"), ("[privilege]\nkeep = []", 0, "PermissionError")],
    ids=["default", "none"],
)
def test_it_forwards_and_runs_nothing(net, more, kept, raw):
    with daemon(net, more) as inside:
        assert "5 received" in ping(net.h1, H2, "-c5", "-l5")
        threads = inside.threads()
        assert len(threads) >= 6, "worker, API, neighbors, publisher, maintenance, and the first"
        for thread in threads:
            assert thread.permitted == thread.effective == kept
            assert thread.inheritable == thread.ambient == thread.bounding == 0
            assert thread.no_new_privs
            assert thread.seccomp == 2
        assert inside.children()
        for helper in inside.children():  # which were started in between
            for thread in capabilities.threads(Path(f"/proc/{helper}/task")):
                assert not thread.permitted & ~kept
                assert thread.no_new_privs
        for code, answer in TRIES.items():
            assert inside.do(code).startswith(answer), code
        opened = "socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()"
        assert inside.do(opened).startswith(raw)
        transfer(net.h1, net.h2, H2, 3_000_000)


def test_what_the_api_does_still_works(net):
    with daemon(net) as inside:
        client = vforward.Client("confined")
        assert "1 received" in ping(net.h1, H2, "-c1")
        assert {row["address"] for row in client.neighbors().rows} >= {H1, H2}
        before = client.routes().count
        client.add_route("10.9.0.0/16", via=H2)
        assert client.routes().count == before + 1
        client.delete_route("10.9.0.0/16")
        assert client.ports()[0].rx.packets > 0
        assert client.metrics()
        assert inside.process.poll() is None


@pytest.mark.parametrize("mode", ["ring", "xdp"])
def test_an_interface_that_comes_back_is_taken_again(net, mode):
    """With AF_XDP, as before: its program takes CAP_BPF, which is kept where it is wished."""
    bpf = capabilities.mask(("bpf",)) if mode == "xdp" else 0
    with daemon(net, port=f'mode = "{mode}"') as inside:
        client = vforward.Client("confined")
        assert {thread.permitted for thread in inside.threads()} == {KEPT | bpf}
        assert "2 received" in ping(net.h1, H2, "-c2", "-l2")
        told = client.ports()[1].other_end
        net.router.run("ip", "link", "delete", "dev", "wan")
        until(lambda: "no interface 'wan'" in client.ports()[1].other_end, "nobody notices")
        veth(net.h2, "eth0", net.router, "wan")
        net.h2.address("eth0", f"{H2}/24")
        net.h2.run("ip", "route", "add", "default", "via", WAN)
        until(lambda: client.ports()[1].other_end == told, lambda: client.ports()[1].other_end)
        until(lambda: "1 received" in ping(net.h1, H2, "-c1", "-W1"), inside.log.read_text)
        assert "AF_XDP" in told


def test_ports_that_a_reload_adds_are_opened(net):
    """An interface and a TAP: that is what the two capabilities are kept for."""
    veth(net.h2, "eth1", net.router, "more")
    added = '[ports.more]\ntype = "af_packet"\ninterface = "more"\naddress = "10.3.0.1/24"\n'
    with daemon(net) as inside:
        client = vforward.Client("confined")
        file = net.directory / "confined.toml"
        file.write_text(file.read_text() + added + HOST)
        inside.process.send_signal(signal.SIGHUP)
        until(
            lambda: {"more", "host"} <= {port.name for port in client.ports()}, inside.log.read_text
        )
        transfer(net.h1, net.router, LAN, 1_000_000)
        assert "1 received" in ping(net.h1, "10.3.0.1", "-c1")
        assert {thread.seccomp for thread in inside.threads()} == {2}


def test_the_hosts_tap_and_a_machine_that_connects_again(net):
    path = net.directory / "vm"
    vhost = f'[ports.vm]\ntype = "vhost-user"\nsocket = "{path}"\n'
    bridge = '[bridges.b]\nports = ["vm", "vm2"]\n'
    second = vhost.replace("ports.vm", "ports.vm2").replace(str(path), f"{path}2")
    frame = b"\xff" * 6 + b"\x02\0\0\0\0\x01\x88\xb5" + bytes(60)
    with daemon(net, ports=HOST + vhost + second + bridge):
        transfer(net.h1, net.router, LAN, 1_000_000)
        for _ in range(2):
            one, other = Frontend.connect(path), Frontend.connect(f"{path}2")
            one.begin()
            other.begin()
            one.send([frame])
            assert other.receive(1) == [frame]
            one.close()
            other.close()
        with net.router.inside():
            assert "1 received" in ping(net.h2, LAN, "-c1")


UNDER = """
import ctypes, json, os, struct, sys
from vforward.io import shim
numbers = json.loads(sys.argv[1])
step = lambda *words: struct.pack("=HBBI", *words)
code = step(0x20, 0, 0, 0) + b"".join(step(0x15, 0, 1, n) + step(6, 0, 0, 0x7FFF0000) for n in numbers)
code += step(6, 0, 0, 0x50000 | 1)
assert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0  # no_new_privs
shim.check(shim.lib.vf_seccomp(shim.pointer(code), len(code) // 8), "the unit's filter")
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes a program under a filter that allows these calls, as systemd does."""


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_under_the_filter_of_the_unit(net):
    """What systemd refuses a service, EPERM, the daemon does without."""
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if os.uname().machine != "x86_64" or not header.exists():
        pytest.skip(f"no {header}: apt-get install linux-libc-dev")
    known = dict(re.findall(r"#define __NR_(\w+) (\d+)", header.read_text()))
    numbers = [int(known[name]) for name in sorted(allowed_calls()) if name in known]
    python = (sys.executable, "-c", UNDER, json.dumps(numbers), sys.executable)
    with daemon(net, python=python, ports=HOST) as inside:
        assert "5 received" in ping(net.h1, H2, "-c5", "-l5")
        transfer(net.h1, net.router, LAN, 1_000_000)
        client = vforward.Client("confined")
        assert "AF_XDP" in client.ports()[0].other_end
        for code, answer in TRIES.items():
            assert inside.do(code).startswith(answer), code


def has_two_capabilities(net, inside, *, uid):
    """And no more: it forwards, and cannot run a program."""
    for thread in inside.threads():
        assert thread.permitted == thread.effective == RAW_ADMIN
        assert thread.inheritable == thread.ambient == 0
        assert thread.bounding == RAW_ADMIN, "it may not change it, nor need it"
        assert thread.no_new_privs
        assert thread.seccomp == 2
    assert json.loads(inside.do("os.getuid()")) == uid
    assert "5 received" in ping(net.h1, H2, "-c5", "-l5")
    assert inside.do("os.execv('/bin/true', ['true'])").startswith("PermissionError")


@pytest.mark.timeout(900)  # where his code is compiled anew
@pytest.mark.skipif(os.geteuid() != 0, reason="root becomes another user here")
def test_an_ordinary_user_with_two_capabilities(net):
    """As the unit has it: ambient CAP_NET_RAW and CAP_NET_ADMIN, and nothing else."""
    place = net.directory / "user"
    place.mkdir()
    python, environment = as_ordinary_user(place, ("net_raw", "net_admin"))
    with daemon(net, python=python, environment=environment, ports=HOST) as inside:
        has_two_capabilities(net, inside, uid=65534)
        transfer(net.h1, net.router, LAN, 1_000_000)


CONTAINED = (
    *("setpriv", "--bounding-set", "-all,+net_raw,+net_admin", "--inh-caps", "-all"),
    *("--no-new-privs", sys.executable),
)
"""As the Containerfile's usage has it: root of no more than two capabilities, and of no new ones."""


@pytest.mark.skipif(
    shutil.which("setpriv") is None, reason="no setpriv: apt-get install util-linux"
)
@pytest.mark.skipif(os.geteuid() != 0, reason="of another user these capabilities would be none")
def test_root_with_two_capabilities(net):
    with daemon(net, python=CONTAINED) as inside:
        has_two_capabilities(net, inside, uid=0)
        transfer(net.h1, net.h2, H2, 1_000_000)
