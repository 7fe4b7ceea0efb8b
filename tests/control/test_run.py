"""The daemon's life, on capture files."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from vforward.control import config, observe
from vforward.control.client import Client
from vforward.control.rules import FirewallSettings, Masquerade, Policer, Rule
from vforward.control.run import from_config, run
from vforward.control.supervisor import Supervisor
from vforward.errors import ApiError, ArenaError, ConfigError, PortError
from vforward.io.pcap import read_frames, write_frames
from vforward.memory.arena import Arena
from vforward.memory.place import running, runtime_directory
from vforward.testing import packets

LAN_MAC, HOST = "02:00:00:00:01:01", "02:00:00:00:00:02"
WAN_MAC, NEXT = "02:00:00:00:02:01", "02:00:00:00:00:03"
ROUTER = f"""
[forwarder]
name = "test"
buffers = 1024
vector = {{vector}}
[ports.lan]
type = "pcap"
address = "10.0.1.1/24"
mac = "{LAN_MAC}"
read = "in.pcap"
[ports.wan]
type = "pcap"
address = "10.0.2.1/24"
mac = "{WAN_MAC}"
write = "out.pcap"
[[routes]]
prefix = "10.9.0.0/16"
via = "10.0.2.2"
[[routes]]
prefix = "10.8.0.0/16"
type = "blackhole"
[[neighbors]]
address = "10.0.2.2"
mac = "{NEXT}"
port = "wan"
"""
EACH_TYPE = """
[forwarder]
name = "each"
buffers = 1024
[ports.memory]
type = "memory"
mac = "02:00:00:00:00:01"
[ports.file]
type = "pcap"
write = "x.pcap"
mtu = 9000
[ports.made]
type = "generator"
count = 10
dst_mac = "02:00:00:00:00:09"
[ports.none]
type = "null"
[ports.seven]
type = "vlan"
parent = "none"
vlan = 7
address = ["10.0.7.1/24", "10.0.8.1/24"]
mtu = 1400
[[cross_connects]]
ports = ["memory", "file"]
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def frame(number, *, ttl=64, to=LAN_MAC, dst="10.9.0.1"):
    udp = packets.udp("10.0.1.2", dst, 1000, number, bytes(20))
    return packets.eth(to, HOST, 0x0800, packets.ip4("10.0.1.2", dst, 17, udp, ttl=ttl))


def router(directory, *, vector=256, frames=()):
    write_frames(directory / "in.pcap", list(frames))
    file = directory / "router.toml"
    file.write_text(ROUTER.format(vector=vector))
    return file


@contextmanager
def daemon(*arguments, lines=1):
    """The command, when it has said that it forwards."""
    command = [Path(sys.executable).parent / "vforward", "run", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, process.stdout.readline()
        finally:
            process.kill()


def nothing_left():
    root = runtime_directory()
    return not root.exists() or list(root.iterdir()) == []


def only_state_left():
    """What the next process goes on with, adr/0032, and nothing that runs or listens."""
    sockets = [*runtime_directory().rglob("*.sock")]
    return not running() and not sockets and not nothing_left()


@pytest.mark.parametrize("vector", [1, 256])
def test_forwards_a_capture_and_ends_when_idle(tmp_path, vector):
    frames = [frame(n) for n in range(600)] + [frame(1, dst="10.8.0.1")]
    ready = []
    wanted = config.load(router(tmp_path, vector=vector, frames=frames))
    run(wanted, ready=lambda: ready.append(running()), exit_when_idle=True)
    assert ready == [["test"]]
    assert read_frames(tmp_path / "out.pcap") == [
        packets.eth(NEXT, WAN_MAC, 0x0800, frame(n, ttl=63)[14:]) for n in range(600)
    ]
    assert nothing_left()


def test_memory_is_one_heap_before_there_are_threads_and_is_given_back(tmp_path, monkeypatch):
    from vforward.control import run as module

    def threads():
        return {thread.name for thread in threading.enumerate()}

    given, before, others = [], [], threads()
    monkeypatch.setattr(module.resident, "one_heap", lambda: before.append((running(), threads())))
    monkeypatch.setattr(module, "GIVE_BACK_S", 2 * module.LOOK_S)
    monkeypatch.setattr(module.resident, "give_back", lambda: given.append(running()))
    run(config.load(router(tmp_path)), exit_when_idle=True)
    assert before == [([], others)]
    assert given
    assert given[0] == ["test"]


def test_progress_counts_up_to_the_end(tmp_path):
    steps = []
    run(
        config.load(router(tmp_path)),
        lambda done, total, name: steps.append((done, total, name)),
        exit_when_idle=True,
    )
    assert [done for done, _, _ in steps] == list(range(len(steps)))
    assert {total for _, total, _ in steps} == {len(steps)}
    assert "ip4-lookup" in [name for _, _, name in steps]


def test_each_type_of_port(tmp_path):
    with from_config(config.parse(EACH_TYPE, str(tmp_path / "each.toml"))) as forwarder:
        interfaces = forwarder.interfaces.by_name
        assert list(interfaces) == ["memory", "file", "made", "none", "seven"]
        assert interfaces["seven"].parent == "none"
        assert interfaces["memory"].peer == "file"
        assert interfaces["memory"].port.mac == bytes.fromhex("020000000001")
        assert interfaces["file"].port.mtu == 9000
        assert forwarder.interfaces.record(interfaces["seven"])["mtu"] == 1400
    assert nothing_left()


def test_a_port_that_does_not_open_leaves_nothing(tmp_path):
    file = router(tmp_path)
    (tmp_path / "in.pcap").unlink()
    with pytest.raises(PortError, match=r"in\.pcap"):
        run(config.load(file))
    assert nothing_left()


def test_a_name_in_use_is_refused(tmp_path):
    wanted = config.load(router(tmp_path))
    with Arena.create("test"), pytest.raises(ArenaError, match="'test' is already running"):
        run(wanted)


def test_a_core_that_is_not_there_is_refused(tmp_path):
    text = ROUTER.format(vector=1).replace("[ports.lan]", "core = 1023\n[ports.lan]")
    with pytest.raises(ConfigError, match=r"forwarder\.core: CPU 1023 is not one .*: 0"):
        run(config.parse(text, str(tmp_path / "router.toml")))
    assert nothing_left()


def test_a_signal_while_compiling_ends_it(tmp_path):
    ready = []

    def interrupt(done, total, name):
        if done == 3:
            signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    run(config.load(router(tmp_path)), interrupt, lambda: ready.append(1))
    assert ready == []
    assert signal.getsignal(signal.SIGTERM) is before
    assert nothing_left()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_process_and_leaves_nothing(tmp_path, number):
    file = router(tmp_path, frames=[frame(n) for n in range(100)])
    with daemon(file) as (process, line):
        assert line.startswith(
            "forwarding: 2 ports, 2 routes, 1 neighbor; show with: vforward show "
        )
        with observe.attach("test") as view:
            assert view.runtime().state == "running"
            assert view.about["pid"] == process.pid
        process.send_signal(number)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
    assert len(read_frames(tmp_path / "out.pcap")) == 100
    assert nothing_left()


def test_a_process_that_cannot_start_says_why(tmp_path):
    file = router(tmp_path)
    (tmp_path / "in.pcap").unlink()
    with daemon(file) as (process, line):
        assert process.wait(60) == 1
        assert line == ""
        error = process.stderr.read()
    assert error.startswith("vforward: ")
    assert "in.pcap" in error
    assert "Traceback" not in error
    assert nothing_left()


def test_show_counts_what_was_forwarded(tmp_path):
    file = router(tmp_path, frames=[frame(n) for n in range(300)] + [frame(1, dst="10.8.0.1")])
    end = threading.Event()
    with daemon(file) as (process, _), observe.attach() as view:
        while view.runtime().packets < 301:
            assert process.poll() is None
            end.wait(0.01)
        end.wait(0.05)
        lan, wan = view.ports()
        assert (lan.name, lan.rx.packets, lan.tx.packets) == ("lan", 301, 0)
        assert (wan.rx, wan.tx.packets, wan.tx.bytes) == (
            None,
            300,
            sum(map(len, [frame(1)] * 300)),
        )
        assert sum(row.count for row in view.errors() if row.drop) == 1
        assert "10.9.0.0/16" in [route["prefix"] for route in view.routes().rows]
        assert [n["address"] for n in view.neighbors().rows] == ["10.0.2.2"]
        edges = {(n.name, e.to): e.packets for n in view.graph() for e in n.edges}
        assert edges["ethernet-input", "ip4-input"] == 301
        view.clear()
        assert view.runtime().packets == 0


def test_the_api_by_tcp_for_who_has_the_token(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    token = tmp_path / "token"
    token.write_text("a-token-of-sixteen\n")
    token.chmod(0o600)
    file = router(tmp_path, frames=[frame(n) for n in range(10)])
    file.write_text(
        f'{file.read_text()}\n[api]\nlisten = "127.0.0.1:{port}"\ntoken_file = "token"\n'
    )
    with daemon(file) as (process, line):
        assert line.startswith("forwarding:")
        url = f"http://127.0.0.1:{port}"
        assert Client(url=url, token="a-token-of-sixteen").about()["pid"] == process.pid
        assert Client("test").about()["name"] == "test"
        with pytest.raises(ApiError, match="Authorization"):
            Client(url=url, token="another-token-here").about()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
    assert nothing_left()


def test_an_address_of_the_api_that_is_taken_is_said(tmp_path):
    token = tmp_path / "token"
    token.write_text("a-token-of-sixteen\n")
    token.chmod(0o600)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        tcp = f'[api]\nlisten = "127.0.0.1:{port}"\ntoken_file = "{token}"\n'
        wanted = config.parse(router(tmp_path).read_text() + tcp, str(tmp_path / "router.toml"))
        with pytest.raises(ApiError, match=f"{port}: Address already in use"):
            run(wanted)
    assert only_state_left()


def wait(true, process, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "it does not come true"
        time.sleep(0.02)


def test_sighup_applies_what_the_file_says_by_now_and_logs_what_is_wrong(tmp_path):
    file = router(tmp_path)
    text = file.read_text().replace('read = "in.pcap"\n', 'write = "lan.pcap"\n')
    file.write_text(text)
    with daemon(file) as (process, line), observe.attach("test") as view:
        assert line.startswith("forwarding:")

        def prefixes():
            return {route["prefix"] for route in view.routes().rows}

        wait(lambda: "10.8.0.0/16" in prefixes(), process)
        file.write_text(text.replace("10.8.0.0/16", "10.7.0.0/16"))
        process.send_signal(signal.SIGHUP)
        wait(lambda: "10.7.0.0/16" in prefixes(), process)
        assert "10.8.0.0/16" not in prefixes()
        file.write_text(text.replace("10.8.0.0/16", "10.6.0.0/99") + "x = 1\ny = 2\n")
        process.send_signal(signal.SIGHUP)
        said = [process.stderr.readline() for _ in range(1)]
        while "key here" not in said[-1] or len([t for t in said if "key here" in t]) < 2:
            said.append(process.stderr.readline())
        told = "".join(said)
        assert "10.6.0.0/99" in told
        assert "not applied" in told
        file.write_text(text.replace("10.8.0.0/16", "10.5.0.0/16"))
        process.send_signal(signal.SIGHUP)
        wait(lambda: "10.5.0.0/16" in prefixes(), process)
        assert "10.7.0.0/16" not in prefixes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
    assert nothing_left()


@contextmanager
def supervised(tmp_path, monkeypatch, **more):
    """The environment that systemd gives, and what has come to its socket."""
    name, heard = f"vforward-{tmp_path}", []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")

        def listen():
            while "STOPPING=1" not in heard:
                heard.append(listener.recv(1000).decode())

        listening = threading.Thread(target=listen, daemon=True)
        listening.start()
        for key, value in {"NOTIFY_SOCKET": f"@{name}", **more}.items():
            monkeypatch.setenv(key, value)
        yield heard
        listening.join(20)
        assert not listening.is_alive(), heard


def test_who_started_it_is_told_that_it_forwards_still_does_and_ends(tmp_path, monkeypatch):
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    file = tmp_path / "idle.toml"
    file.write_text('[ports.a]\ntype = "null"\n')
    with (
        supervised(tmp_path, monkeypatch, WATCHDOG_USEC="200000") as heard,
        daemon(file) as (process, line),
    ):
        assert line.startswith("forwarding:")
        wait(lambda: heard.count("WATCHDOG=1") >= 2, process)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    told = [line for line in heard if not line.startswith("EXTEND_TIMEOUT_USEC=")]
    assert told == ["READY=1", *["WATCHDOG=1"] * (len(told) - 2), "STOPPING=1"]


def test_who_started_it_is_told_that_the_start_takes_its_time(tmp_path, monkeypatch):
    now = [0.0]
    with supervised(tmp_path, monkeypatch) as heard:
        clocked = partial(Supervisor, clock=lambda: now[0])
        monkeypatch.setattr("vforward.control.run.Supervisor", clocked)

        def step(done, total, name):
            if done == 2:
                now[0] = 1.0

        run(config.load(router(tmp_path)), step, exit_when_idle=True)
    assert heard == ["EXTEND_TIMEOUT_USEC=120000000", "READY=1", "STOPPING=1"]


WALLED = """
[ports.lan]
type = "memory"
address = "10.0.1.1/24"
[firewall]
default = "deny"
sessions = 1023
timeouts.udp = 9
[address_sets]
x = "10.0.0.0/8"
[[rules]]
action = "permit"
from = "@x"
in = "lan"
police = "p"
[policers.p]
type = "single-rate"
rate = "1M"
burst = 1500
[[nat]]
type = "masquerade"
out = "lan"
"""


def test_a_firewall_as_the_configuration_says(tmp_path):
    with from_config(config.parse(WALLED, str(tmp_path / "walled.toml"))) as forwarder:
        wanted = forwarder.firewall.wanted
        assert wanted.settings == FirewallSettings(
            default="deny", sessions=1023, timeouts={"udp": 9}
        )
        assert wanted.rules == (Rule(action="permit", from_="@x", in_="lan", police="p"),)
        assert wanted.nat == (Masquerade(out="lan"),)
        assert wanted.policers == {"p": Policer(rate="1M", burst=1500)}


def test_without_one_there_is_none(tmp_path):
    text = WALLED.split("[firewall]", maxsplit=1)[0]
    with from_config(config.parse(text, str(tmp_path / "open.toml"))) as forwarder:
        assert not forwarder.firewall.on


DIES = """
import sys, threading
from vforward.graph import scheduler, worker

class Dying:
    def run(self, words, once):
        if threading.current_thread().name == "worker" and sys.stdin.readline():
            raise RuntimeError("planted")
        return scheduler.run(words, once)

    def __getattr__(self, name):
        return getattr(scheduler, name)

worker.scheduler = Dying()
sys.argv[0] = "vforward"
from vforward.control.main import main
main()
"""


def test_a_worker_that_dies_ends_the_process_and_is_told(tmp_path):
    """Which one, in the log with its error; and who starts it anew has what it knew, and no socket."""
    file = tmp_path / "dies.toml"
    file.write_text('[log]\nformat = "json"\n[ports.a]\ntype = "null"\n')
    command = [sys.executable, "-c", DIES, "run", str(file)]
    done = subprocess.run(
        command, input="\n", capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1
    told, last = [line for line in done.stderr.splitlines() if "worker" in line]
    told = json.loads(told)
    assert told["level"] == "error"
    assert told["message"] == "thread worker has ended by an error: planted"
    assert "RuntimeError: planted" in told["error"]
    assert last == "vforward: worker 0 has ended by itself; its error is in the log"
    assert only_state_left()
