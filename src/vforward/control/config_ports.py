# SPDX-License-Identifier: Apache-2.0
"""The models of ports: one for each ``type``."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, Field, ValidationInfo

from vforward.control.config_types import (
    DEFAULT_VRF,
    PORT_SAYS,
    Addresses,
    Host4,
    Many,
    Model,
    OptionalMac,
    OptionalPath,
    SocketPath,
    Tag,
    VrfName,
    matching,
    says,
    whole,
)
from vforward.errors import PortError
from vforward.rings.netmap_names import parse

_EVEN_ABSENT = Field(validate_default=True)
_INTERFACE = r"(?!\.{1,2}$)[!-.0-9;-~]{1,15}"  # Linux: no blank, slash or colon
_Interface = Annotated[
    str, matching(_INTERFACE), says("the name of a Linux interface, 1 to 15 characters")
]
_YES_NO = says("true or false")
_Netns = Annotated[
    Annotated[str, matching(r"(?!\.{1,2}$)[!-.0-~]{1,255}|/[!-~]{1,4000}")] | None,
    says("the name of a network namespace, or the path of one, like /proc/1234/ns/net"),
]


class AnyPort(Model):
    """What all types of port have."""

    address: Addresses = ()
    mtu: Annotated[int, whole(68, 65535)] = 1500  # RFC 791 section 3.1
    vrf: VrfName = DEFAULT_VRF
    urpf: Annotated[Literal["loose", "strict"] | None, says('"loose" or "strict"')] = None


class AfPacketPort(AnyPort):
    """A Linux interface, through packet sockets."""

    type: Literal["af_packet"]
    interface: _Interface
    netns: _Netns = None
    set_up: Annotated[bool, _YES_NO] = False
    mode: Annotated[
        Literal["auto", "ring", "raw", "xdp"], says('"auto", "ring", "raw" or "xdp"')
    ] = "auto"
    mac: OptionalMac = None
    ring_mib: Annotated[int, whole(1, 1024)] = 32
    promiscuous: Annotated[bool, _YES_NO] = True
    xdp: Annotated[Literal["auto", "off"], says('"auto" or "off"')] = "auto"


def _file_needed(write: Path | None, info: ValidationInfo) -> Path | None:
    if write is None and info.data.get("read", "refused already") is None:
        msg = "is missing, and so is read: a pcap port needs one of them or both"
        raise ValueError(msg)
    return write


class PcapPort(AnyPort):
    """Capture files: one to read packets from, one to write packets to, or both."""

    type: Literal["pcap"]
    read: OptionalPath = None
    write: Annotated[OptionalPath, AfterValidator(_file_needed), _EVEN_ABSENT] = None
    resolution: Annotated[Literal["ns", "us"], says('"ns" or "us"')] = "ns"
    mac: OptionalMac = None


class MemoryPort(AnyPort):
    """Packets that a program hands over and takes back, through the library."""

    type: Literal["memory"]
    mac: OptionalMac = None


def _netmap_name(name: str) -> str:
    try:
        parse(name)
    except PortError as error:
        raise ValueError(f"is no netmap port that can be opened: {error}") from error
    return name


class NetmapPort(AnyPort):
    """An end of a netmap pipe, or a port of a VALE switch."""

    type: Literal["netmap"]
    name: Annotated[
        str,
        AfterValidator(_netmap_name),
        says('the name of a netmap port, like "netmap:x{1", "vale0:a"'),
    ]
    mac: OptionalMac = None


class MemringPort(AnyPort):
    """Packets in the pool's own buffers, for a program of the same user (vforward.attach)."""

    type: Literal["memring"]
    trusted: Annotated[
        Literal[True],
        says(
            "true, said by you: a program on this port can read and change all packets of all ports"
        ),
    ]
    room: Annotated[int, whole(64, 65536)] = 1024
    mac: OptionalMac = None


class MemifPort(AnyPort):
    """A memif peer: VPP, DPDK, or a program with libmemif."""

    type: Literal["memif"]
    socket: SocketPath
    role: Annotated[Literal["server", "client"], says('"server" or "client"')] = "server"
    interface: Annotated[int, whole(0, 2**32 - 1)] = 0
    secret: Annotated[str, matching(r"[!-~]{0,24}"), says("at most 24 printable characters")] = ""
    ring_log2: Annotated[int, whole(5, 14)] = 10
    mac: OptionalMac = None


class VhostUserPort(AnyPort):
    """A virtual machine or another virtio driver, or, of the other side, a virtio device."""

    type: Literal["vhost-user"]
    socket: SocketPath
    side: Annotated[Literal["backend", "frontend"], says('"backend" or "frontend"')] = "backend"
    role: Annotated[Literal["server", "client"], says('"server" or "client"')] = "server"
    queues: Annotated[int, whole(1, 8)] = 1
    packed: Annotated[bool, _YES_NO] = False
    offloads: Annotated[bool, _YES_NO] = True
    trusted: Annotated[bool, _YES_NO] = False
    mac: OptionalMac = None


class GeneratorPort(AnyPort):
    """UDP packets made by the forwarder itself, for benchmarks."""

    type: Literal["generator"]
    count: Annotated[int | None, whole(1, 2**63 - 1)] = None
    size: Annotated[int, whole(60, 9000)] = 60
    flows: Annotated[int, whole(1, 1048576)] = 256
    src: Host4 = IPv4Address("10.0.1.2")
    dst: Host4 = IPv4Address("10.0.2.2")
    dst_mac: OptionalMac = None
    touch: Annotated[Literal["headers", "whole"], says('"headers" or "whole"')] = "whole"
    mac: OptionalMac = None


class NullPort(AnyPort):
    """Swallows everything that is sent to it, for benchmarks."""

    type: Literal["null"]


def _two_at_most(push: tuple[int, ...]) -> tuple[int, ...]:
    if len(push) > 2:
        msg = "has more than two tags"
        raise ValueError(msg)
    return push


class Rewrite(Model):
    """What a frame's tags become on its way in; on its way out the same is undone."""

    pop: Annotated[int, whole(0, 2)] = 0
    push: Annotated[
        tuple[Tag, ...],
        Many,
        AfterValidator(_two_at_most),
        says('at most two tags, the outer first, each like 100, "dot1q:100" or "dot1ad:100"'),
    ] = ()


class VlanPort(AnyPort):
    """The packets of one VLAN on another port."""

    type: Literal["vlan"]
    parent: Annotated[str, PORT_SAYS]
    vlan: Annotated[int, whole(1, 4094)]
    inner: Annotated[int | None, whole(1, 4094)] = None
    dot1ad: Annotated[bool, _YES_NO] = False
    rewrite: Annotated[
        Rewrite | None, says("a table like { pop = 1, push = [100] }, with one of these or both")
    ] = None

    @property
    def tags(self) -> int:
        """How many tags its frames carry."""
        return 1 if self.inner is None else 2


class BviPort(AnyPort):
    """The routed port of a bridge (bridge virtual interface)."""

    type: Literal["bvi"]
    bridge: Annotated[str, says("the name of a bridge under [bridges]")]
    mac: OptionalMac = None


class TapPort(AnyPort):
    """A Linux interface that is made, by which the host stands at a port; its addresses are that
    port's, and its MTU.
    """

    type: Literal["tap"]
    interface: _Interface
    netns: _Netns = None
    queues: Annotated[int, whole(1, 16)] = 1
    host_of: Annotated[str, PORT_SAYS]


Port = (
    AfPacketPort
    | PcapPort
    | MemoryPort
    | NetmapPort
    | MemringPort
    | MemifPort
    | VhostUserPort
    | GeneratorPort
    | NullPort
    | VlanPort
    | BviPort
    | TapPort
)
PORT_TYPES: dict[str, type[BaseModel]] = {
    get_args(model.model_fields["type"].annotation)[0]: model for model in get_args(Port)
}
