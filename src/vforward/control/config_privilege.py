# SPDX-License-Identifier: Apache-2.0
"""The model of [privilege]: what the daemon may still do once it has begun to forward."""

from typing import Annotated, Literal

from vforward.control.config_types import Many, Model, says

Capability = Literal[
    "net_admin", "net_raw", "net_bind_service", "bpf", "ipc_lock", "dac_override", "sys_admin"
]


class Privilege(Model):
    """What it keeps. keep None: what the configuration's ports may need (control.confine)."""

    keep: Annotated[
        Annotated[tuple[Capability, ...], Many] | None,
        says(
            'a list of "net_admin", "net_raw", "net_bind_service", "bpf", "ipc_lock", "dac_override", '
            '"sys_admin"'
        ),
    ] = None
    seccomp: Annotated[Literal["auto", "require", "off"], says('"auto", "require" or "off"')] = (
        "auto"
    )
