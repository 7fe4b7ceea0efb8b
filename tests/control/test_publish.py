"""What a forwarder publishes of itself, read back as `vforward show` reads it."""

import pytest

from vforward.control import observe
from vforward.control.forwarder import Forwarder
from vforward.io.generator import GeneratorPort
from vforward.io.memory import MemoryPort


@pytest.fixture
def router(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with Forwarder("test", buffers=1024) as made:
        made.lan = made.add_port("lan", MemoryPort(), "10.0.1.1/24")
        made.add_port("gen", GeneratorPort(size=300, touch="headers", count=5), "10.0.2.1/24")
        made.add_vlan("seven", "lan", 7, "10.0.7.1/24")
        made.build(config="lab.toml")
        yield made


def test_ports_and_what_they_touch(router):
    with observe.attach("test") as view:
        lan, gen, seven = view.about["ports"]
        assert (lan["type"], lan["mac"]) == ("MemoryPort", router.lan.mac.hex(":"))
        assert (lan["rx"], lan["tx"], lan["addresses"]) == ("lan-rx", "lan-tx", ["10.0.1.1/24"])
        assert (seven["type"], seven["parent"], seven["vlan"]) == ("vlan", "lan", 7)
        assert (seven["rx"], seven["tx"]) == (None, None)
        assert gen["touched"].startswith("the first ")
        assert "touched" not in lan
        assert "touched" not in seven
        assert [bool(row.touched) for row in view.ports()] == [False, True, False]
        assert view.about["config"] == "lab.toml"


def test_counters_lie_where_the_nodes_say(router):
    router.run_until_idle()
    with observe.attach("test") as view:
        gen = view.ports()[1]
        assert (gen.rx.packets, gen.rx.bytes) == (5, 1500)


def test_routes_and_neighbors_when_they_change(router):
    with observe.attach("test") as view:
        before = [route["prefix"] for route in view.routes()]
        router.add_route("10.9.0.0/16", kind="blackhole")
        router.add_neighbor("10.0.1.9", b"\2\0\0\0\0\x63", "lan")
        router._publisher.refresh()
        after = [route["prefix"] for route in view.routes()]
        assert sorted(after) == sorted([*before, "10.9.0.0/16"])
        assert [(n["address"], n["state"]) for n in view.neighbors()] == [("10.0.1.9", "static")]
