# SPDX-License-Identifier: Apache-2.0
"""The exceptions of vforward. Each message says what, where, and what to do."""


class VforwardError(Exception):
    """The base of everything that vforward raises on purpose."""


class ConfigError(VforwardError):
    """The configuration is wrong; nothing was applied."""


class WiringError(VforwardError):
    """The graph cannot be built from these nodes and edges."""


class ArenaError(VforwardError):
    """A shared-memory segment is missing, foreign or of another layout."""


class PortError(VforwardError):
    """A port cannot be opened or used."""


class PortInUse(PortError):
    """Somebody else has the port."""


class ShimMissing(VforwardError):
    """The compiled system-call shim is not there."""


class KernelError(VforwardError):
    """A kernel does not compile or breaks the kernel contract."""


class ApiError(VforwardError):
    """A forwarder's API cannot be reached, or refuses; status is HTTP's, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status
