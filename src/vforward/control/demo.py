# SPDX-License-Identifier: Apache-2.0
"""The demo: two Linux hosts in network namespaces, and a forwarder between them that is `vforward run`.

Without root it happens in a user namespace; where the kernel allows none, the same graph forwards
from capture file to capture file.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

from rich.console import Console

from vforward.control.demo_world import (
    H1,
    H1_MAC,
    H2,
    H2_MAC,
    LAN,
    LAN_MAC,
    MB,
    NET_S,
    STOP_S,
    WAN,
    WAN_MAC,
    Failed,
    await_start,
    echo,
    end,
    end_with_parent,
    from_h1,
    identity,
    may_use_interfaces,
    processes_in,
    routed,
    transfer,
    user_namespace,
    vforward,
    wire,
)
from vforward.errors import VforwardError
from vforward.io.pcap_file import read_frames, write_frames
from vforward.testing.namespaces import Namespace, namespaces

NAME = "demo"
INSIDE = "VFORWARD_DEMO_IN_USER_NAMESPACE"
PICTURE = f"h1 {H1} ──── {LAN} [ vforward ] {WAN} ──── {H2} h2"
TCP_PINGS = 5
TCP_MB = 300
PINGS = 5
FRAMES = 10_000

ON_INTERFACES = f"""\
[forwarder]
name = "{NAME}"

[ports.lan]
type = "af_packet"
interface = "lan0"
address = "{LAN}/24"

[ports.wan]
type = "af_packet"
interface = "wan0"
address = "{WAN}/24"
"""
ON_FILES = f"""\
[forwarder]
name = "{NAME}"

[ports.lan]
type = "pcap"
read = "lan-in.pcap"
write = "lan-out.pcap"
mac = "{LAN_MAC}"
address = "{LAN}/24"

[ports.wan]
type = "pcap"
write = "wan-out.pcap"
mac = "{WAN_MAC}"
address = "{WAN}/24"

[[neighbors]]
address = "{H1}"
mac = "{H1_MAC}"
port = "lan"

[[neighbors]]
address = "{H2}"
mac = "{H2_MAC}"
port = "wan"
"""


def demo() -> int:
    """Show it. Returns the exit status: 0 only if all of it worked."""
    if may_use_interfaces():
        return _Demo().run("namespaces")
    if INSIDE not in os.environ and (unshare := user_namespace()):
        command = [*unshare, *vforward("demo")]
        return subprocess.run(command, env={**os.environ, INSIDE: "1"}, check=False).returncode
    return _Demo().run("files")


class _Demo:
    """One run: the console, a directory of its own, and the forwarder's process."""

    def __init__(self) -> None:
        self.out = Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
        self.steps = 0
        self.directory = Path()
        self.title = ""

    def run(self, where: str) -> int:
        """Show it on namespaces or on files. Returns the exit status."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        with tempfile.TemporaryDirectory(prefix="vforward-demo-", dir=base) as directory:
            self.directory = Path(directory)
            try:
                if where == "namespaces":
                    self._on_namespaces()
                else:
                    self._on_files()
            except KeyboardInterrupt:
                self.out.print("\ninterrupted", style="bold red")
                return 130
            except (Failed, VforwardError, OSError, RuntimeError) as error:
                self._say_what_failed(error)
                return 1
        self.out.print("\nAll of it worked.", style="bold green")
        return 0

    def _say_what_failed(self, error: Exception) -> None:
        self.out.print(f"\nFailed at step {self.steps}, {self.title}: {error}", style="bold red")
        log = self.directory / "log"
        if log.exists() and (text := log.read_text(errors="replace").strip()):
            self.out.print(f"The forwarder's log:\n{text}")

    def _step(self, title: str) -> None:
        self.steps += 1
        self.title = title
        self.out.print(f"\n{self.steps}. {title}", style="bold")

    def _result(self, text: str) -> None:
        self.out.print(f"   {text}", style="green")

    # Namespaces.

    def _on_namespaces(self) -> None:
        whose = "in a user namespace, without root" if INSIDE in os.environ else "as root"
        self.out.print(f"vforward demo: two Linux hosts and a forwarder between them, {whose}\n")
        self.out.print(f"   {PICTURE}", style="cyan")
        with namespaces("h1", "router", "h2") as (h1, router, h2):
            kept = [identity(space) for space in (h1, router, h2)]
            self._step("Make three network namespaces, joined by veth pairs with all offloads on")
            wire(h1, router, h2)
            self._result("h1:eth0 - lan0, wan0 - h2:eth0")
            with self._forwarder(ON_INTERFACES, router.inside()) as process:
                self._ping(h1, H2, "h2, across the forwarder")
                self._ping(h1, LAN, "the forwarder itself")
                self._stream(h1, h2)
                self._show("show", "runtime")
                self._trace(h1)
                self._show("show", "ports")
                self._stop(process)
        self._nothing_left(kept)

    def _ping(self, host: Namespace, to: str, whom: str) -> None:
        self._step(f"Ping {whom}: ping -c {PINGS} {to}")
        said = host.run("ping", "-c", str(PINGS), "-i", "0.2", "-W", "5", to, check=False)
        if f" {PINGS} received" not in said:
            raise Failed(said.strip())
        times = re.search(r"= [\d.]+/([\d.]+)/", said)
        average = f", {times[1]} ms on average" if times else ""
        self._result(f"{PINGS} of {PINGS} answered{average}")

    def _stream(self, h1: Namespace, h2: Namespace) -> None:
        self._step(f"Send {TCP_MB} MB of random bytes by TCP from h1 to h2")
        sent, received, seconds = transfer(h1, h2, TCP_MB)
        if sent != received:
            msg = f"SHA-256 of what was sent {sent}, of what came {received}"
            raise Failed(msg)
        rate = TCP_MB * MB * 8 / seconds / 1e9
        self._result(f"{seconds:.2f} s, {rate:.1f} Gbit/s; SHA-256 at both ends {sent[:16]}...")

    def _trace(self, h1: Namespace) -> None:
        self._step("Follow one packet of a ping through the graph: vforward trace 1 -n demo")
        command = vforward("trace", "1", "-n", NAME, "--node", "lan-rx", "--timeout", "30")
        ping = h1.command("ping", "-q", "-i", "0.2", "-w", "60", H2)
        with subprocess.Popen(ping, stdout=subprocess.DEVNULL) as pinging:
            try:
                self._call(command)
            finally:
                pinging.terminate()

    def _nothing_left(self, kept: list[int]) -> None:
        self._step("See that nothing is left behind")
        stay = [f"process {pid}" for pid in processes_in(kept)]
        stay += [str(path) for path in (self.directory / "run").iterdir()]
        if stay:
            raise Failed(", ".join(stay))
        self._result("no namespace, no process, no shared memory")

    # Capture files.

    def _on_files(self) -> None:
        self.out.print(
            "vforward demo: no network namespace can be made here (this takes root, or a kernel "
            "that allows user namespaces),\nso the forwarder reads and writes capture files\n"
        )
        self.out.print(f"   {PICTURE}", style="cyan")
        self._step(f"Write {FRAMES:,} packets from h1 to h2, and a ping of the forwarder")
        across = [from_h1(n) for n in range(FRAMES)]
        write_frames(self.directory / "lan-in.pcap", [*across, echo()])
        with self._forwarder(ON_FILES, contextlib.nullcontext()) as process:
            self._await_packets(len(across) + 1)
            self._show("show", "runtime")
            self._show("show", "ports")
            self._stop(process)
        self._step("Compare what was written with what a router has to send")
        wanted = [routed(n) for n in range(FRAMES)]
        if read_frames(self.directory / "wan-out.pcap") != wanted:
            msg = "wan-out.pcap has not what h1 sent, with one hop less to live"
            raise Failed(msg)
        if read_frames(self.directory / "lan-out.pcap") != [echo(reply=True)]:
            msg = "lan-out.pcap has not the answer to the ping"
            raise Failed(msg)
        self._result(f"{FRAMES:,} packets with one hop less to live, and the ping's answer")
        self._nothing_left([])

    def _await_packets(self, n: int) -> None:
        command = vforward("show", "runtime", "-n", NAME, "--json")
        deadline = time.monotonic() + NET_S
        while time.monotonic() < deadline:
            said = subprocess.run(
                command, env=self._environment(), stdout=subprocess.PIPE, check=True
            )
            if json.loads(said.stdout)["packets"] >= n:
                return
        msg = f"{n} packets were not read within {NET_S:.0f} s"
        raise Failed(msg)

    # The forwarder.

    @contextlib.contextmanager
    def _forwarder(
        self, text: str, inside: contextlib.AbstractContextManager[None]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon, forwarding; its process inherits the namespace that this thread is in."""
        file, log = self.directory / f"{NAME}.toml", self.directory / "log"
        file.write_text(text)
        self._step(f"Start the forwarder: vforward run {NAME}.toml")
        self.out.print(indent(text, "   "), style="dim")
        with contextlib.ExitStack() as stack:
            written = stack.enter_context(log.open("wb"))
            start = time.monotonic()
            with inside:
                process = subprocess.Popen(
                    vforward("run", str(file)),
                    env=self._environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=written,
                    stderr=subprocess.STDOUT,
                    preexec_fn=end_with_parent,
                )
            stack.callback(end, process)
            await_start(process, log)
            self._result(f"forwards after {time.monotonic() - start:.1f} s")
            yield process

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        self._step("Stop the forwarder: SIGTERM")
        start = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            msg = f"it still runs {STOP_S:.0f} s later"
            raise Failed(msg) from None
        if status:
            msg = f"its exit status is {status}"
            raise Failed(msg)
        self._result(f"ended after {time.monotonic() - start:.1f} s, exit status 0")

    def _show(self, *arguments: str) -> None:
        self._step(f"Look into it while it runs: vforward {' '.join(arguments)} -n {NAME}")
        self._call(vforward(*arguments, "-n", NAME))

    def _call(self, command: list[str]) -> None:
        sys.stdout.flush()
        done = subprocess.run(command, env=self._environment(), check=False)
        if done.returncode:
            msg = f"exit status {done.returncode}"
            raise Failed(msg)

    def _environment(self) -> dict[str, str]:
        return {**os.environ, "VFORWARD_RUNTIME_DIR": str(self.directory / "run")}
