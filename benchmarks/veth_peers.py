# SPDX-License-Identifier: Apache-2.0
"""Two more who forward in the middle of benchmarks.peer_lab: nftables with conntrack, Open vSwitch.

Open vSwitch runs in user space (datapath type netdev), from its own programs, with a database and
sockets in the lab's directory: what runs on the machine is left alone.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peer_lab import Lab
from vforward.control.demo_world import Failed, end, end_with_parent

NFT_PACKAGE, OVS_PACKAGE = "nftables", "openvswitch-switch"
OVS_PROGRAMS = ("ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl")
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")
START_S = 10.0
RULES = """
table ip vforward_bench {
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iif "lan" oif "wan" accept
    }
}
"""


@contextlib.contextmanager
def nftables(lab: Lab) -> Iterator[None]:
    """Linux's IPv4 forwarding behind a policy that drops, as our firewall's does: what is new is allowed
    from lan to wan, and is remembered.
    """
    file = lab.directory / "rules"
    file.write_text(RULES)
    with lab.router():
        lab.m.run("nft", "-f", str(file))
        try:
            yield
        finally:
            lab.m.run("nft", "delete", "table", "ip", "vforward_bench")


@contextlib.contextmanager
def open_vswitch(lab: Lab, kind: str) -> Iterator[None]:
    """A bridge of lan and wan in Open vSwitch's user space datapath, as it learns by itself (NORMAL).

    kind: of its interfaces: "system", packet sockets, or "afxdp".
    """
    place = lab.directory / "ovs"
    place.mkdir(exist_ok=True)
    database, sock = place / "conf.db", f"unix:{place}/db.sock"
    database.unlink(missing_ok=True)
    _say("ovsdb-tool", "create", str(database), str(SCHEMA))
    with contextlib.ExitStack() as stack:
        for command in (
            ["ovsdb-server", str(database), f"--remote=p{sock}", f"--unixctl={place}/server.ctl"],
            ["ovs-vswitchd", sock, f"--unixctl={place}/switch.ctl"],
        ):
            log = stack.enter_context((place / f"{command[0]}.log").open("wb"))
            environment = {"PATH": _path(), "OVS_RUNDIR": str(place), "OVS_LOGDIR": str(place)}
            process = subprocess.Popen(
                lab.m.command(*command), stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, env=environment, preexec_fn=end_with_parent,
            )  # fmt: skip
            stack.callback(end, process)
        control = ["ovs-vsctl", f"--db={sock}", "--timeout=10"]
        _retry(*control, "--no-wait", "init")
        mask = f"other_config:pmd-cpu-mask={1 << lab.forwarder_cpu:x}"
        _say(*control, "--no-wait", "set", "Open_vSwitch", ".", mask)
        _say(*control, "add-br", "br0", "--", "set", "Bridge", "br0", "datapath_type=netdev")
        try:
            for name in ("lan", "wan"):
                _say(
                    *control,
                    "add-port",
                    "br0",
                    name,
                    "--",
                    "set",
                    "Interface",
                    name,
                    f"type={kind}",
                )
            yield
        finally:
            _say(*control, "del-br", "br0")


def _path() -> str:
    return "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _say(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}"
        raise Failed(msg)


def _retry(*command: str) -> None:
    """Until it works: the server may not have begun."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            return _say(*command)
        except Failed:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def missing_nftables() -> str:
    """Why there is no nftables here; empty if there is."""
    return _missing(("nft",), NFT_PACKAGE)


def missing_open_vswitch() -> str:
    """The same of Open vSwitch."""
    return _missing(OVS_PROGRAMS, OVS_PACKAGE) or (
        "" if SCHEMA.is_file() else f"{SCHEMA}: not there"
    )


def _missing(programs: tuple[str, ...], package: str) -> str:
    absent = [name for name in programs if shutil.which(name, path=_path()) is None]
    return f"{absent[0]}: not installed (Debian's package {package})" if absent else ""
