# SPDX-License-Identifier: Apache-2.0
"""Golden files: a configuration, packets, what comes out and what is counted, for people to read.

A file says first, in plain text, what it shows and which standard says so. Then come parts, each
after a line "=== NAME"; the last three may be repeated, as steps one after the other:

    === configuration     TOML as in a user's file; all its ports are of the type memory
    === names             NAME = expression, one to a line: short names for the lines below
    === input             PORT expression: a packet that comes in
    === output            PORT expression: a packet that goes out, in order; ports without a line
                          send nothing. A|B [at A, at B]: it goes out at one of these ports, which
                          is not said; with lists of packets for "at A", all of these at the same
    === counters          NODE COUNTER n: how many more there are after this step. Counters of drops
                          that have no line stay as they are; others are not looked at

An expression is Python: scapy's layers, H("0200 0000") for bytes in hex, names; also a list of
packets. A line that begins with a blank continues the one before; # begins a comment line. Expected
packets are written by hand from the standards, never copied from what came out.

Packets of one port that follow each other come in as one burst; at another port's, all that was
before has come to rest.
"""

from __future__ import annotations

import difflib
import logging
import re
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from vforward.control import config
from vforward.control.forwarder import Forwarder
from vforward.control.run import from_config
from vforward.io.memory import MemoryPort
from vforward.tables import held

logging.getLogger("scapy").setLevel(logging.CRITICAL)  # its warnings about this machine

PARTS = ("configuration", "names", "input", "output", "counters")
COUNTER = re.compile(r"(\S+)\s+(\S+)\s+(\d+)$")


@dataclass
class Step:
    """Packets in, packets out by port, and how far each counter goes up."""

    given: list[tuple[str, bytes]] = field(default_factory=list)
    wanted: dict[str, list[bytes]] = field(default_factory=dict)
    either: list[dict[str, list[bytes]]] = field(default_factory=list)
    counters: dict[tuple[str, str], int] = field(default_factory=dict)


@dataclass
class Golden:
    """A golden file, read."""

    title: str
    configuration: str
    steps: list[Step]


def layers() -> dict[str, Any]:
    """What expressions may name."""
    from scapy.layers import inet, inet6, l2
    from scapy.packet import Padding, Raw

    found = {
        name: value
        for module in (l2, inet, inet6)
        for name, value in vars(module).items()
        if isinstance(value, type)
    }
    return found | {"Raw": Raw, "Padding": Padding, "H": bytes.fromhex}


def read(text: str, where: str) -> Golden:
    """Read a golden file's text. Raises ValueError, which names the line."""
    title, _, rest = text.partition("\n=== ")
    first = title.count("\n") + 2
    configuration: list[str] = []
    names: dict[str, Any] = {}
    steps: list[Step] = []
    before = len(PARTS)
    if not title.strip():
        msg = f"{where}:1: says nothing about itself"
        raise ValueError(msg)
    for part in rest.split("\n=== "):
        name, _, body = part.partition("\n")
        at = f"{where}:{first}"
        if name.strip() not in PARTS:
            msg = f"{at}: no part {name!r}; there are: {', '.join(PARTS)}"
            raise ValueError(msg)
        now = PARTS.index(name.strip())
        if name.strip() == "configuration":
            configuration.append(body)
        elif name.strip() == "names":
            for line, content in _lines(body, first + 1):
                key, _, expression = content.partition("=")
                names[key.strip()] = _value(expression, names, f"{where}:{line}")
        else:
            if now <= before or not steps:
                steps.append(Step())
            _fill(steps[-1], name.strip(), _lines(body, first + 1), names, where)
            before = now
        first += part.count("\n") + 1
    return Golden(title.strip(), "\n".join(configuration), steps)


def _lines(body: str, first: int) -> list[tuple[int, str]]:
    """The logical lines, with their numbers in the file."""
    found: list[tuple[int, str]] = []
    for number, line in enumerate(body.split("\n"), first):
        if not line.strip() or line.startswith("#"):
            continue
        if line[0].isspace() and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        else:
            found.append((number, line.strip()))
    return found


def _value(expression: str, names: dict[str, Any], at: str) -> Any:
    try:
        return eval(expression.strip(), layers() | names)
    except Exception as error:
        msg = f"{at}: {type(error).__name__}: {error}"
        raise ValueError(msg) from error


def _fill(
    step: Step, part: str, lines: list[tuple[int, str]], names: dict[str, Any], where: str
) -> None:
    for number, line in lines:
        at = f"{where}:{number}"
        if part == "counters":
            match = COUNTER.match(line)
            if match is None:
                msg = f"{at}: want NODE COUNTER n"
                raise ValueError(msg)
            step.counters[match[1], match[2]] = int(match[3])
            continue
        port, _, expression = line.partition(" ")
        value = _value(expression, names, at)
        if part == "input":
            step.given += [(port, packet) for packet in _packets(value)]
        elif "|" in port:
            one_each = zip(port.split("|"), value, strict=True)
            step.either.append({name: _packets(packets) for name, packets in one_each})
        else:
            step.wanted.setdefault(port, []).extend(_packets(value))


def _packets(value: Any) -> list[bytes]:
    return [bytes(packet) for packet in (value if isinstance(value, list) else [value])]


def check(golden: Golden, vector: int, name: str = "golden") -> None:
    """Do what the file says, and raise AssertionError, for people to read, where it comes out otherwise."""
    wanted = config.parse(golden.configuration, f"{name}.toml")
    settings = wanted.forwarder.model_copy(update={"vector": vector, "name": name})
    with from_config(wanted.model_copy(update={"forwarder": settings})) as forwarder:
        forwarder.build()
        for number, step in enumerate(golden.steps, 1):
            _check_step(forwarder, step, f"step {number} at vector {vector}")


def _check_step(forwarder: Forwarder, step: Step, where: str) -> None:
    ports = {i.name: i.port for i in forwarder.interfaces if isinstance(i.port, MemoryPort)}
    before = _counters(forwarder)
    for name, burst in groupby(step.given, lambda given: given[0]):
        assert name in ports, f"{where}: no memory port {name!r}"
        frames = [frame for _, frame in burst]
        assert ports[name].send(frames) == len(frames)
        forwarder.run_until_idle()
    faults: list[str] = []
    got = {name: port.received() for name, port in ports.items()}
    asked = {*step.wanted, *(name for ways in step.either for name in ways)}
    assert asked <= set(got), f"{where}: no memory port {', '.join(asked - set(got))}"
    faults += [fault for ways in step.either if (fault := _take_either(where, ways, got))]
    for name, frames in got.items():
        faults += _differences(f"{where}: port {name}", step.wanted.get(name, []), frames)
    after = _counters(forwarder)
    drops = {(m.name, c.label) for m in _members(forwarder) for c in m.node.counters if c.drop}
    for key in sorted(drops | set(step.counters)):
        assert key in after, f"{where}: no counter {' '.join(key)}"
        more, want = after[key] - before[key], step.counters.get(key, 0)
        if more != want:
            faults.append(f"{where}: counter {' '.join(key)} went up by {more}, not {want}")
    forwarder.pool.check(held=held.held_rows(forwarder.neighbors.own[0]["held"]))
    assert not faults, "\n".join(["", *faults])


def _take_either(where: str, ways: dict[str, list[bytes]], got: dict[str, list[bytes]]) -> str:
    """Take packets that may go out at one of several ports off what did. Returns what is wrong."""
    for name, packets in ways.items():
        if all(got[name].count(packet) >= packets.count(packet) for packet in packets):
            for packet in packets:
                got[name].remove(packet)
            return ""
    return f"{where}: at none of {', '.join(ways)} went out all of what goes out at one of them"


def _members(forwarder: Forwarder) -> list[Any]:
    return [m for m in forwarder.graph.members.values() if m.node.counters is not None]


def _counters(forwarder: Forwarder) -> dict[tuple[str, str], int]:
    return {
        (m.name, label): int(n)
        for m in _members(forwarder)
        for label, n in zip(m.node.counter_labels, m.counts, strict=True)
    }


def _differences(where: str, wanted: list[bytes], got: list[bytes]) -> list[str]:
    """What to tell about packets of one port that are not those wanted."""
    if wanted == got:
        return []
    told = [f"{where} sent {len(got)} packets, wanted {len(wanted)}"]
    for i in range(max(len(wanted), len(got))):
        pair = [frames[i] if i < len(frames) else None for frames in (wanted, got)]
        if pair[0] != pair[1]:
            want, have = ([] if frame is None else dissected(frame) for frame in pair)
            told.append(f"packet {i + 1}:")
            told += difflib.unified_diff(want, have, "wanted", "got", lineterm="", n=99)
    return told


def dissected(frame: bytes) -> list[str]:
    """A frame as scapy reads it, and its bytes."""
    shown: str = layers()["Ether"](frame).show(dump=True)
    return [*shown.splitlines(), *(frame[i : i + 16].hex(" ", 2) for i in range(0, len(frame), 16))]


def files(directory: Path) -> list[Path]:
    """The golden files of a directory."""
    return sorted(directory.glob("*.golden"))
