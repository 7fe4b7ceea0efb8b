"""The forwarder: what it refuses, what it leaves behind, and a packet through it."""

import threading
import time

import pytest

from vforward.control import forwarder as module
from vforward.control.forwarder import Forwarder
from vforward.errors import ArenaError, ConfigError, VforwardError
from vforward.graph import control as c
from vforward.graph.worker import PROFILES
from vforward.io.memory import MemoryPort
from vforward.memory.arena import Arena

HOST = b"\x02\0\0\0\0\x63"


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


@pytest.fixture
def router():
    with Forwarder("test", buffers=1024) as made:
        made.lan = made.add_port("lan", MemoryPort(), "10.0.1.1/24")
        made.wan = made.add_port("wan", MemoryPort(mtu=1400), "10.0.2.1/24")
        made.add_neighbor("10.0.2.9", HOST, "wan")
        yield made


def ping(port):
    """An echo request from 10.0.1.9 to 10.0.2.9, to the router's port."""
    ip = bytes.fromhex("4500001c00000000400163d00a0001090a000209")
    return port.mac + HOST + b"\x08\0" + ip + bytes.fromhex("0800f7ff00000000")


def fails(*_, **__):
    msg = "no room"
    raise ArenaError(msg)


@pytest.mark.parametrize("part", ["Pool", "Routing", "Graph", "NeighborService"])
def test_a_failed_one_leaves_nothing(monkeypatch, part):
    with monkeypatch.context() as patch:
        patch.setattr(module, part, fails)
        with pytest.raises(ArenaError, match="no room") as kept:
            Forwarder("test")
    assert kept.value.__traceback__  # its frames still hold the half-made one
    with pytest.raises(ArenaError, match="no forwarder named 'test' is running"):
        Arena.attach("test")
    Forwarder("test", buffers=1024).close()  # the lock is free again


@pytest.mark.parametrize(
    "options",
    [{"vector": 0}, {"vector": 257}, {"buffers": 1023}, {"neighbors": 0}, {"profile": "fast"}],
)
def test_options_out_of_range(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        Forwarder("test", **options)


def test_a_name_is_one_forwarders(router):
    with pytest.raises(ArenaError):
        Forwarder("test")
    with pytest.raises(ConfigError, match="the name is taken"):
        router.add_port("lan", MemoryPort())
    with pytest.raises(ConfigError, match="no port named 'nosuch'; there are: lan, wan"):
        router.add_vlan("v", "nosuch", 5)


def test_a_sub_interface_has_no_longer_packets_than_its_port(router):
    for number, (given, mtu) in enumerate(((None, 1400), (1500, 1400), (1000, 1000)), 1):
        router.add_vlan(f"v{number}", "wan", number, mtu=given)
        assert router.interfaces.record(router.interfaces.find(f"v{number}"))["mtu"] == mtu


def test_packets_go_through_in_the_caller_and_beside_it(router):
    router.build()
    frame = ping(router.lan)
    router.lan.send([frame])
    router.run_until_idle()
    (got,) = router.wan.received()
    assert (got[:6], got[6:12], got[22]) == (HOST, router.wan.mac, 63)
    router.start()
    for second in (router.start, router.run_until_idle):
        with pytest.raises(VforwardError, match="while its thread is running"):
            second()
    router.lan.send([frame])
    deadline = time.monotonic() + 20
    while not (again := router.wan.received()) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert again == [got]
    router.stop()
    router.lan.send([frame])
    router.run_until_idle()
    assert router.wan.received() == [got]
    router.close()
    router.close()
    router.stop()


def test_the_graph_is_fixed_when_it_is_built(router):
    router.add_port("one", MemoryPort())
    router.add_port("other", MemoryPort())
    router.build()
    late = MemoryPort()
    for change in (
        lambda: router.add_port("late", late, "10.0.3.1/24"),
        lambda: router.add_vlan("late", "lan", 5),
        lambda: router.cross_connect("one", "other"),
    ):
        with pytest.raises(ConfigError, match="built, and packets may be on their way; add"):
            change()
    assert list(router.interfaces.by_name) == ["lan", "wan", "one", "other"]
    assert late._pool is None  # not opened
    router.add_route("10.9.0.0/16", via="10.0.2.9")  # routes may come and go


def test_a_port_that_does_not_open_is_not_there():
    class Closed(MemoryPort):
        def open(self, *_):
            msg = "it is closed"
            raise VforwardError(msg)

    with Forwarder("test", buffers=1024) as router:
        with pytest.raises(VforwardError, match="it is closed"):
            router.add_port("lan", Closed())
        with pytest.raises(ConfigError, match=r"port lan: .*10\.0\.1\.1/24"):
            router.add_port("lan", MemoryPort(), "10.0.1.1.1/24")
        router.add_port("lan", MemoryPort(), "10.0.1.1/24")


def test_the_profile_may_change_at_any_time(router):
    def words():
        return {
            (int(p.control[c.SPIN_ROUNDS]), int(p.control[c.GATHER])) for p in router.graph.plans
        }

    router.profile = "throughput"
    router.build()
    assert words() == {tuple(PROFILES["throughput"])}
    router.start()
    router.profile = "latency"
    assert (router.profile, words()) == ("latency", {tuple(PROFILES["latency"])})
    with pytest.raises(ConfigError, match="profile is 'fast'; allowed: 'latency' or 'throughput'"):
        router.profile = "fast"
    assert (router.profile, words()) == ("latency", {tuple(PROFILES["latency"])})
    router.stop()


def test_stop_ends_everything_also_when_a_port_fails(router, monkeypatch):
    router.build()
    began = []
    for service in ("neighbors", "workers"):
        start = getattr(router, service).start
        monkeypatch.setattr(
            getattr(router, service),
            "start",
            lambda service=service, start=start: (began.append(service), start()),
        )
    router.start()
    assert began == ["neighbors", "workers"]  # its bell is set before it is rung
    router._maintenance.start()  # a second thread there is not
    router._publisher.start()
    names = ("worker", "neighbors", "maintenance", "publisher")
    running = [thread.name for thread in threading.enumerate()]
    assert [running.count(name) for name in names] == [1, 1, 1, 1]

    def full():
        msg = "the disk is full"
        raise OSError(msg)

    with monkeypatch.context() as patch:
        patch.setattr(router.lan, "flush", full)
        with pytest.raises(OSError, match="the disk is full"):
            router.stop()
    assert not {thread.name for thread in threading.enumerate()}.intersection(names)
