# SPDX-License-Identifier: Apache-2.0
"""The models of what is switched: bridges and cross connects."""

from typing import Annotated

from pydantic import BeforeValidator

from vforward.control.config_types import (
    PORT_SAYS,
    Many,
    Model,
    PortPair,
    UnicastMac,
    says,
    whole,
)

_YES_NO = says("true or false")


class BridgePort(Model):
    """A port of a bridge; ports of one group other than 0 do not reach each other."""

    port: Annotated[str, PORT_SAYS]
    group: Annotated[int, whole(0, 255)] = 0


class StaticMac(Model):
    """A MAC address that is at a port, whatever frames say."""

    mac: UnicastMac
    port: Annotated[str, PORT_SAYS]


def _named(value: object) -> object:
    return {"port": value} if isinstance(value, str) else value


class Bridge(Model):
    """A bridge domain: IEEE 802.1Q's MAC relay for the frames of its ports."""

    ports: Annotated[
        tuple[Annotated[BridgePort, BeforeValidator(_named)], ...],
        Many,
        says('a list of names of ports, or of tables like { port = "a", group = 1 }'),
    ]
    learn: Annotated[bool, _YES_NO] = True
    flood_unknown: Annotated[bool, _YES_NO] = True
    flood_broadcast: Annotated[bool, _YES_NO] = True
    flood_multicast: Annotated[bool, _YES_NO] = True
    forward_reserved: Annotated[bool, _YES_NO] = False
    limit: Annotated[int, whole(0, 2097152)] = 0
    static: Annotated[
        tuple[StaticMac, ...],
        Many,
        says('a list of tables like { mac = "02:00:00:00:00:01", port = "a" }'),
    ] = ()


class CrossConnect(Model):
    """Two ports of which each sends what the other receives."""

    ports: PortPair
