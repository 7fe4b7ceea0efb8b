# SPDX-License-Identifier: Apache-2.0
"""Who a figure is compared with: name and version, as the program itself says, for a row's key `peer`."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from functools import cache
from importlib import metadata

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LIMIT_S = 20.0
UNKNOWN = "unknown version"
DPDK_SAYS = r"RTE Version: 'DPDK ([^']+)'"
OPEN_VSWITCH_SAYS, IPERF_SAYS, NFT_SAYS = r"vSwitch. (\S+)", r"iperf (\S+)", r"nftables v?(\S+)"


def linux(what: str) -> str:
    """The kernel, and what of it."""
    return f"Linux {platform.release()} ({what})"


def dpdk() -> str:
    """DPDK, by testpmd, which says so before it tells how it is used."""
    command = ("dpdk-testpmd", "-v", "--help")
    return f"DPDK {_asked(command, DPDK_SAYS)}"


def open_vswitch() -> str:
    """Open vSwitch."""
    return f"Open vSwitch {_asked(('ovs-vswitchd', '--version'), OPEN_VSWITCH_SAYS)}"


def iperf3() -> str:
    """iperf3."""
    return f"iperf3 {_asked(('iperf3', '--version'), IPERF_SAYS)}"


def nftables() -> str:
    """The program nft, and the kernel that does what it says."""
    return f"nft {_asked(('nft', '--version'), NFT_SAYS)}, {linux('nftables, conntrack')}"


def package(name: str) -> str:
    """A package of Python's."""
    try:
        return f"{name} {metadata.version(name)}"
    except metadata.PackageNotFoundError:
        return f"{name}, {UNKNOWN}"


@cache
def _asked(command: tuple[str, ...], says: str) -> str:
    """The version in what a program prints, whatever its exit status; UNKNOWN if it says none."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{PATH}"}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S,
            check=False, errors="replace", env=environment,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return UNKNOWN
    found = re.search(says, done.stdout + done.stderr)
    return found[1] if found else UNKNOWN
