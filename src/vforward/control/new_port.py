# SPDX-License-Identifier: Apache-2.0
"""From models of the configuration to the objects that they describe: ports, bridges' settings, tags."""

from __future__ import annotations

from vforward.control import config as models
from vforward.control.assembly import Tags
from vforward.control.bridging import BridgeSettings
from vforward.io.af_packet import AfPacketPort
from vforward.io.generator import GeneratorPort
from vforward.io.memif import MemifPort
from vforward.io.memory import MemoryPort
from vforward.io.memring import MemringPort
from vforward.io.netmap import NetmapPort
from vforward.io.null import NullPort
from vforward.io.pcap import PcapPort
from vforward.io.port import Port
from vforward.io.vhost import VhostUserPort
from vforward.io.virtio import VirtioPort


def bridge_settings(bridge: models.Bridge) -> BridgeSettings:
    """What a bridge does."""
    return BridgeSettings(
        learn=bridge.learn,
        flood_unknown=bridge.flood_unknown,
        flood_broadcast=bridge.flood_broadcast,
        flood_multicast=bridge.flood_multicast,
        forward_reserved=bridge.forward_reserved,
        limit=bridge.limit or None,
    )


def tags_of(port: models.Port) -> Tags | None:
    """How a port's tags change, or None if it does not say."""
    if not isinstance(port, models.VlanPort) or port.rewrite is None:
        return None
    return Tags(port.rewrite.pop, tuple((tag >> 16, tag & 0xFFFF) for tag in port.rewrite.push))


def new_port(port: models.Port) -> Port:
    """The port that a model describes, not opened."""
    if isinstance(port, models.NullPort):
        return NullPort(mtu=port.mtu)
    assert not isinstance(port, models.VlanPort | models.BviPort | models.TapPort)
    mac = port.mac.packed if port.mac else None
    if isinstance(port, models.AfPacketPort):
        return AfPacketPort(
            port.interface,
            mac,
            port.mtu,
            port.ring_mib,
            promiscuous=port.promiscuous,
            netns=port.netns or "",
            set_up=port.set_up,
            mode=port.mode,
            xdp=port.xdp == "auto",
        )
    if isinstance(port, models.PcapPort):
        return PcapPort(
            read=port.read, write=port.write, resolution=port.resolution, mac=mac, mtu=port.mtu
        )
    if isinstance(port, models.MemoryPort):
        return MemoryPort(mac=mac, mtu=port.mtu)
    if isinstance(port, models.NetmapPort):
        return NetmapPort(port.name, mac=mac, mtu=port.mtu)
    if isinstance(port, models.MemifPort):
        return MemifPort(
            port.socket,
            role=port.role,
            interface=port.interface,
            secret=port.secret,
            log2=port.ring_log2,
            mac=mac,
            mtu=port.mtu,
        )
    if isinstance(port, models.MemringPort):
        return MemringPort(mac=mac, mtu=port.mtu, room=port.room)
    if isinstance(port, models.VhostUserPort) and port.side == "frontend":
        return VirtioPort(
            str(port.socket),
            server=port.role == "server",
            mac=mac,
            mtu=port.mtu,
            queues=port.queues,
            packed=port.packed,
            offloads=port.offloads,
        )
    if isinstance(port, models.VhostUserPort):
        return VhostUserPort(
            str(port.socket),
            server=port.role == "server",
            mac=mac,
            mtu=port.mtu,
            queues=port.queues,
            offloads=port.offloads,
            trusted=port.trusted,
        )
    return GeneratorPort(
        count=port.count,
        size=port.size,
        flows=port.flows,
        src=port.src,
        dst=port.dst,
        dst_mac=port.dst_mac.packed if port.dst_mac else None,
        touch=port.touch,
        mac=mac,
        mtu=port.mtu,
    )
