"""`vforward run` as a process of its own between the hosts: what it leaves behind, and to whom."""

import json
import signal
import subprocess

import pytest

from e2e import process
from e2e.lab import ping, transfer, until

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
CONFIG = f"""
[forwarder]
name = "e2e"
[ports.lan]
type = "af_packet"
interface = "lan"
address = "{LAN}/24"
[ports.wan]
type = "af_packet"
interface = "wan"
address = "{WAN}/24"
"""


@pytest.fixture
def net(place, tmp_path):
    """The hosts, with addresses; file is the forwarder's configuration."""
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    place.file = tmp_path / "e2e.toml"
    place.file.write_text(CONFIG)
    return place


def daemon(net, inside=None):
    """The process, forwarding; it begins anew. inside: its namespace, if not the router's."""
    return process.daemon(net.file, inside=inside or net.router.inside())


def show(*arguments):
    return subprocess.run(
        process.command(*arguments), capture_output=True, text=True, check=True
    ).stdout


def left(runtime):
    return sorted(path.name for path in runtime.iterdir()) if runtime.exists() else []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_leaves_nothing(net, runtime, number):
    with daemon(net) as forwarder:
        assert left(runtime) == ["e2e"]
        assert "5 received" in ping(net.h1, H2, "-c5", "-l5")
        forwarder.send_signal(number)
        assert forwarder.wait(20) == 0, forwarder.log.read_text()
        assert "Traceback" not in forwarder.log.read_text()
    assert left(runtime) == []


def test_after_kill_the_next_one_of_that_name_goes_on(net, runtime):
    with daemon(net) as forwarder:
        assert "2 received" in ping(net.h1, H2, "-c2", "-l2")
        forwarder.kill()
        forwarder.wait()
        assert left(runtime) == ["e2e"]
        assert show_fails("show", "runtime", "-n", "e2e")
    with daemon(net) as forwarder:
        assert "2 received" in ping(net.h1, H2, "-c2", "-l2")
        forwarder.terminate()
        assert forwarder.wait(20) == 0, forwarder.log.read_text()
    assert left(runtime) == []


def show_fails(*arguments):
    with pytest.raises(subprocess.CalledProcessError) as raised:
        show(*arguments)
    return raised.value.returncode == 1


def test_show_and_trace_while_it_forwards(net):
    with daemon(net):
        transfer(net.h1, net.h2, H2, 20_000_000)
        runtime = json.loads(show("show", "runtime", "-n", "e2e", "--json"))
        nodes = {node["name"]: node for node in runtime["nodes"]}
        assert runtime["state"] == "running"
        assert nodes["ip4-rewrite"]["clocks_per_packet"] > 0
        ports = {row["name"]: row for row in json.loads(show("show", "ports", "--json"))}
        assert ports["lan"]["rx"]["bytes"] > 20_000_000
        assert "go out by AF_XDP" in ports["lan"]["other_end"]
        neighbors = json.loads(show("show", "neighbors", "--json"))
        assert {row["address"] for row in neighbors} == {H1, H2}
        with subprocess.Popen(
            net.h1.command("ping", "-q", "-i0.1", "-w60", H2), stdout=subprocess.DEVNULL
        ) as pinging:
            try:
                (packet,) = json.loads(show("trace", "1", "--node", "lan-rx", "--json"))
            finally:
                pinging.terminate()
        assert [step["node"] for step in packet["steps"]] == [
            "lan-rx", "ethernet-input", "ip4-input", "ip4-lookup", "ip4-rewrite",
            "interface-output", "wan-tx",
        ]  # fmt: skip


def test_an_interface_that_goes_down_and_up(net):
    """Its packets are dropped and counted meanwhile; nothing else happens."""
    with daemon(net) as forwarder:
        assert "2 received" in ping(net.h1, H2, "-c2", "-l2")
        net.router.run("ip", "link", "set", "dev", "wan", "down")
        assert "0 received" in ping(net.h1, H2, "-c2", "-i0.01", "-W1")
        net.router.run("ip", "link", "set", "dev", "wan", "up")
        until(lambda: "1 received" in ping(net.h1, H2, "-c1", "-W1"), forwarder.log.read_text)
        assert forwarder.poll() is None
