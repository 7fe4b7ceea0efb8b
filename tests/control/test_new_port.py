"""From models of the configuration to objects: ports of every type, bridges' settings, tags."""

from pathlib import Path

from configs import bridge, port, vlan
from vforward.control import config
from vforward.control.assembly import Tags
from vforward.control.bridging import BridgeSettings
from vforward.control.new_port import bridge_settings, new_port, tags_of
from vforward.io.port import Port


def test_every_model_of_a_port_becomes_one():
    shown = {
        "af_packet": {"interface": "eth0", "mac": "02:00:00:00:00:01", "ring_mib": 8, "xdp": "off"},
        "pcap": {"read": "/x"},
        "memory": {},
        "netmap": {"name": "vale0:a"},
        "memring": {"trusted": True, "room": 64},
        "memif": {"socket": "/x", "role": "client", "mac": "02:00:00:00:00:01"},
        "vhost-user": {"socket": "vm.sock", "role": "client"},
        "generator": {},
        "null": {},
    }
    for model in config.Port.__args__[:-3]:
        kind = model.model_fields["type"].annotation.__args__[0]
        port = new_port(
            model.model_validate({"type": kind, **shown[kind]}, context={"base": Path()})
        )
        assert isinstance(port, Port)
        assert port.kind == kind


def test_what_a_linux_interface_is_asked_for():
    given = {"netns": "/proc/7/ns/net", "set_up": True, "mode": "raw", "promiscuous": False}
    model = config.AfPacketPort(type="af_packet", interface="eth0", mtu=9000, **given)
    port = new_port(model)
    assert {key: getattr(port, key) for key in given} == given
    assert (port.interface, port.mtu, port.ring_mib) == ("eth0", 9000, 32)
    assert new_port(config.AfPacketPort(type="af_packet", interface="eth0")).netns == ""


def test_bridges_and_tags():
    text = (
        port("a") + vlan("v", "vlan = 7, rewrite = {pop = 1, push = [9]}") + vlan("w", "vlan = 8")
    )
    made = config.parse(text + bridge("x", '"v", "w"', "learn = false, limit = 5"), "r.toml")
    assert bridge_settings(made.bridges["x"]) == BridgeSettings(learn=False, limit=5)
    assert tags_of(made.ports["v"]) == Tags(1, ((0x8100, 9),))
    assert tags_of(made.ports["w"]) is None
