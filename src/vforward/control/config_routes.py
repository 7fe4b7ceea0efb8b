# SPDX-License-Identifier: Apache-2.0
"""The models of what is routed: routes, files of routes, neighbors."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo

from vforward.control.config_types import (
    DEFAULT_VRF,
    PORT_SAYS,
    ExistingFile,
    Host,
    Many,
    Model,
    OptionalHost,
    Prefix,
    UnicastMac,
    VrfName,
    says,
    whole,
)

PATHS_MAX = 64
_EVEN_ABSENT = Field(validate_default=True)


def _somewhere(port: str | None, info: ValidationInfo) -> str | None:
    if port is None and info.data.get("via", "refused already") is None:
        msg = "is missing, and so is via: a path needs one of them or both"
        raise ValueError(msg)
    return port


class Path(Model):
    """One of several ways of a route."""

    via: OptionalHost = None
    port: Annotated[str | None, PORT_SAYS, AfterValidator(_somewhere), _EVEN_ABSENT] = None
    weight: Annotated[int, whole(1, 255)] = 1


def _alone(paths: tuple[Path, ...] | None, info: ValidationInfo) -> tuple[Path, ...] | None:
    if paths is None:
        return None
    if not 1 <= len(paths) <= PATHS_MAX:
        msg = "has no path" if not paths else f"has {len(paths)} paths"
        raise ValueError(msg)
    if any(info.data.get(key, "refused already") is not None for key in ("via", "port")):
        msg = "cannot stand beside via or port: remove one of them"
        raise ValueError(msg)
    return paths


def _only_one(kind: str | None, info: ValidationInfo) -> str | None:
    others = [info.data.get(key, "refused already") for key in ("via", "port", "paths")]
    if kind is None and others == [None, None, None]:
        msg = "is missing, and so are via, port and paths: a route needs one of the four"
        raise ValueError(msg)
    if kind is not None and others != [None, None, None]:
        msg = "cannot stand beside via, port or paths: remove one of them"
        raise ValueError(msg)
    return kind


class Route(Model):
    """Where packets to a prefix go: by way of routers, out of a port, to us, or nowhere."""

    prefix: Prefix
    via: OptionalHost = None
    port: Annotated[str | None, PORT_SAYS] = None
    paths: Annotated[
        tuple[Path, ...] | None,
        AfterValidator(_alone),
        Many,
        says(f"1 to {PATHS_MAX} tables with via, port (one of them or both), weight (1 to 255)"),
    ] = None
    type: Annotated[
        Literal["blackhole", "unreachable", "prohibit", "local"] | None,
        says('"blackhole", "unreachable", "prohibit" or "local"'),
        AfterValidator(_only_one),
        _EVEN_ABSENT,
    ] = None
    vrf: VrfName = DEFAULT_VRF
    metric: Annotated[int, whole(0, 2**32 - 1)] = 0

    def arguments(self) -> dict[str, Any]:
        """What Forwarder.add_route takes."""
        return {
            "prefix": self.prefix,
            "via": self.via,
            "port": self.port,
            "kind": self.type or "",
            "paths": [(path.via, path.port, path.weight) for path in self.paths or ()],
            "metric": self.metric,
            "vrf": self.vrf,
        }


class RouteFile(Model):
    """A file of routes, one on each line: the prefix and its next hop."""

    file: ExistingFile
    vrf: VrfName = DEFAULT_VRF
    via: OptionalHost = None


class Neighbor(Model):
    """A static entry of the neighbor table."""

    address: Host
    mac: UnicastMac
    port: Annotated[str, PORT_SAYS]
