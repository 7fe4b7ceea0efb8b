# SPDX-License-Identifier: Apache-2.0
"""A client of a forwarder's API. It needs nothing but Python's own library.

    for port in vforward.Client("router").ports():
        print(port.name, port.rx)

What is answered is as control.observe has it: dataclasses, or dicts where that has dicts.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import partial
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import quote, urlencode, urlsplit

from vforward.control.capture_progress import Progress
from vforward.control.client_config import ConfigCalls, said
from vforward.control.observe import choose
from vforward.control.observe_rows import ErrorRow, Listing, PortRow, Runtime, WaysRow
from vforward.control.observe_workers import WorkerRow
from vforward.control.packet_trace import TracedPacket
from vforward.control.plugin_rows import PluginChange, PluginRow
from vforward.errors import ApiError, ArenaError, ConfigError
from vforward.io import unix
from vforward.memory.place import (
    API_SOCKET,
    NAME,
    locked,
    refuse_foreign,
    running,
    runtime_directory,
)

TIMEOUT_S = 30.0
PLUGIN_S = 400.0
"""How much longer a plug-in may take: it is compiled, twice, and tried."""
WRONG = (400, 422)
"""Statuses that say that the request is wrong, not the moment."""


class Client(ConfigCalls):
    """Speaks to the forwarder of that name, or to the only one that runs. Any thread may call it.

    url, token: instead, to one that listens by TCP, "http://10.0.0.1:8080". timeout_s: longest wait for an
    answer. Every method raises ConfigError when what is asked for is wrong, and ApiError when it cannot be
    done now or nobody answers; ArenaError when no such forwarder runs. Each call has a connection of its
    own.
    """

    def __init__(
        self, name: str = "", *, url: str = "", token: str = "", timeout_s: float = TIMEOUT_S
    ) -> None:
        self._token, self._timeout_s, self._at = token, timeout_s, ("", 0)
        if url:
            self._at = _address(url)
        self.name = url or choose(name)

    # What there is.

    def about(self) -> dict[str, Any]:
        """Who it is: name, version, pid, started, state, vector, config, vrfs."""
        return dict(self._get("/forwarder"))

    def runtime(self) -> Runtime:
        """What the worker and its nodes have done since the last clear."""
        return _built(Runtime, self._get("/runtime"))

    def workers(self) -> list[WorkerRow]:
        """The workers one by one; all else is of all of them together."""
        return _built(list[WorkerRow], self._get("/workers"))

    def ports(self) -> list[PortRow]:
        """The ports by number, and what went through them."""
        return _built(list[PortRow], self._get("/ports"))

    def errors(self, *, everything: bool = False) -> list[ErrorRow]:
        """What was dropped, by node and reason; everything: also counters that count no drops."""
        return _built(list[ErrorRow], self._get("/errors", all=everything))

    def graph(self) -> list[WaysRow]:
        """The nodes in the order in which they run, with their ways out."""
        return _built(list[WaysRow], self._get("/graph"))

    def picture(self, *, everything: bool = False) -> str:
        """The graph as SVG, with the packets that took each arrow; everything: also arrows of none."""
        return self._text("/graph.svg", all=everything)

    def routes(self) -> Listing:
        """The routes in force: prefix, kind, via, paths, port, metric, vrf, source."""
        return _built(Listing, self._get("/routes"))

    def neighbors(self) -> Listing:
        """The neighbors: address, mac, port, state, age."""
        return _built(Listing, self._get("/neighbors"))

    def bridges(self) -> list[dict[str, Any]]:
        """The bridges: bridge, ports, macs, moves."""
        return list(self._get("/bridges"))

    def macs(self) -> Listing:
        """The MACs of bridges: bridge, mac, port, static, age."""
        return _built(Listing, self._get("/macs"))

    def rules(self) -> Listing:
        """The firewall's rules: number, name, action, match, then, packets, bytes; last the default."""
        return _built(Listing, self._get("/rules"))

    def nat(self) -> list[dict[str, Any]]:
        """The rules of NAT: number, name, type, match, new, sessions, allocated, exhausted."""
        return list(self._get("/nat"))

    def policers(self) -> list[dict[str, Any]]:
        """The policers: name, what, packets and bytes by colour."""
        return list(self._get("/policers"))

    def sessions(self, most: int = 1000, **only: str) -> Listing:
        """The sessions, at most so many of them. only: see session_list.Filter."""
        found = self._get("/sessions", most=most, **_named(only))
        return Listing(found["count"], found["rows"])

    def count_sessions(self, **only: str) -> dict[str, int]:
        """How many sessions there are in each state."""
        return dict(self._get("/sessions", most=0, **_named(only))["by_state"])

    # What is done.

    def kill_sessions(self, *, everything: bool = False, **only: str) -> int:
        """End sessions, chosen as in sessions, or all of them. Returns how many."""
        return int(self._ask("DELETE", "/sessions", {"all": everything, **_named(only)})["count"])

    def clear(self) -> None:
        """Let all counters be shown from zero."""
        self._ask("POST", "/clear")

    def trace(self, count: int = 1, node: str = "", timeout_s: float = 10.0) -> list[TracedPacket]:
        """Follow the next packets, of one input node if given; fewer when no more came in time."""
        wish = {"count": count, "node": node, "timeout_s": timeout_s}
        answer = self._ask("POST", "/traces", body=wish, wait_s=timeout_s)
        return _built(list[TracedPacket], answer)

    def metrics(self) -> str:
        """All counters, in Prometheus' text format."""
        return self._text("/metrics")

    def captures(self) -> list[Progress]:
        """How the capture stands that is running, or that was the last one; empty when there was none."""
        return _built(list[Progress], self._get("/captures"))

    @contextmanager
    def capture(
        self, at: str, filter: str = "", *, count: int = 0, seconds: float = 0.0, snap: int = 65549
    ) -> Iterator[Iterator[bytes]]:
        """Capture at a port or a node: a pcap file in pieces, as packets come. Leaving ends it.

        Packets are captured once this is entered. It ends by itself after count packets or so many seconds,
        of which 0 means without end. filter: see docs/cli.md. snap: bytes of each packet. The pieces raise
        ApiError when the forwarder ends it.
        """
        wish = {"at": at, "filter": filter, "count": count, "seconds": seconds, "snap": snap}
        with self._sent("POST", "/captures", body=wish, wait_s=None) as answer:
            yield _pieces(self.name, answer)

    # Changes. What is told is checked as in a configuration, and refused with a ConfigError.

    def add_route(self, prefix: str, **route: Any) -> None:
        """Add a route, or replace that of the same prefix, metric and VRF. route: keys of [[routes]]."""
        self._ask("POST", "/routes", body={"prefix": prefix, **said(route)})

    def delete_route(self, prefix: str, *, metric: int | None = None, vrf: str = "default") -> None:
        """Delete a configured route; without a metric the one with the lowest."""
        self._ask("DELETE", "/routes", {"prefix": prefix, "metric": metric, "vrf": vrf})

    def change_routes(
        self,
        add: Iterable[Mapping[str, Any]] = (),
        delete: Iterable[Mapping[str, Any]] = (),
    ) -> dict[str, Any]:
        """Delete many routes, then add many. add: tables of [[routes]]; delete: each prefix, metric, vrf.

        Returns how many were ``deleted``, ``added`` and ``refused``, and the ``problems`` (RFC 9457) of
        the first hundred refused ones, with their places ``at``. ConfigError: what a place says is no
        route at all, and nothing of this call is changed. 10 000 of each at most.
        """
        return dict(self._ask("PATCH", "/routes", body={"add": [*add], "delete": [*delete]}))

    def add_neighbor(self, address: str, mac: str, port: str) -> None:
        """Tell a neighbor's MAC, which is then never asked for."""
        self._ask("POST", "/neighbors", body={"address": address, "mac": mac, "port": port})

    def delete_neighbor(self, address: str, port: str) -> None:
        """Forget a neighbor, told or learned."""
        self._ask("DELETE", "/neighbors", {"address": address, "port": port})

    def set_rules(
        self,
        rules: Iterable[Mapping[str, Any]],
        *,
        address_sets: Mapping[str, Any] | None = None,
        port_sets: Mapping[str, Any] | None = None,
    ) -> None:
        """Replace all rules at once, and sets if given. rules: keys of [[rules]]."""
        sets = {"address_sets": address_sets, "port_sets": port_sets}
        self._ask("PUT", "/rules", body={"rules": [*rules], **said(sets)})

    def add_rule(self, rule: Mapping[str, Any], before: str | int = "") -> int:
        """Add a rule before another one (its name or number), or as the last. Returns its number."""
        return int(self._ask("POST", "/rules", {"before": before}, dict(rule))["number"])

    def delete_rule(self, which: str | int) -> None:
        """Delete a rule, by its name or number."""
        self._ask("DELETE", f"/rules/{quote(str(which), safe='')}")

    def set_nat(self, nat: Iterable[Mapping[str, Any]]) -> None:
        """Replace all rules of NAT at once. nat: keys of [[nat]]."""
        self._ask("PUT", "/nat", body=[*nat])

    def set_policer(self, name: str, **policer: Any) -> None:
        """Have a policer, or set it anew. policer: keys of [policers.NAME]."""
        self._ask("PUT", f"/policers/{quote(name, safe='')}", body=policer)

    def plugins(self) -> list[PluginRow]:
        """The plug-ins that are loaded."""
        return _built(list[PluginRow], self._get("/nodes"))

    def load_plugin(self, place: str) -> PluginChange:
        """Load a plug-in: a file's path, as the forwarder sees it, or an entry point's name."""
        return self._plugin("POST", "/nodes", {"place": place})

    def replace_plugin(self, name: str, place: str = "") -> PluginChange:
        """Load a plug-in in place of one that is loaded; from where that came, if no place is given."""
        return self._plugin("PUT", f"/nodes/{quote(name, safe='')}", {"place": place})

    def unload_plugin(self, name: str) -> PluginChange:
        """Take a plug-in out; its state is forgotten."""
        return self._plugin("DELETE", f"/nodes/{quote(name, safe='')}", None)

    def delete_policer(self, name: str) -> None:
        """Delete a policer that no rule names."""
        self._ask("DELETE", f"/policers/{quote(name, safe='')}")

    def _plugin(self, method: str, path: str, wish: Mapping[str, str] | None) -> PluginChange:
        return _built(PluginChange, self._ask(method, path, body=wish, wait_s=PLUGIN_S))

    # How.

    def _get(self, path: str, **query: Any) -> Any:
        return self._ask("GET", path, query)

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        wait_s: float = 0.0,
    ) -> Any:
        """The JSON of the answer, or None."""
        with self._sent(method, path, query, body, wait_s) as answer, _answering(self.name):
            content = answer.read()
        return json.loads(content) if content else None

    def _text(self, path: str, **query: Any) -> str:
        with self._sent("GET", path, query) as answer, _answering(self.name):
            return answer.read().decode()

    @contextmanager
    def _sent(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        wait_s: float | None = 0.0,
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, to be read; it may take wait_s longer than others, None: for ever."""
        target = path + (f"?{urlencode(_worded(query))}" if query else "")
        headers = {"Connection": "close"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None
        if body is not None:
            data, headers["Content-Type"] = json.dumps(body).encode(), "application/json"
        connection: http.client.HTTPConnection = _Unix(self.name)
        if self._at[0]:
            connection = http.client.HTTPConnection(*self._at)
        connection.timeout = None if wait_s is None else self._timeout_s + wait_s
        try:
            with _answering(self.name):
                connection.request(method, target, data, headers)
                answer = connection.getresponse()
                if answer.status >= 400:
                    raise _refusal(self.name, answer)
            with answer:
                yield answer
        finally:
            connection.close()


@contextmanager
def _answering(name: str, not_so: str = "does not answer") -> Iterator[None]:
    """In the block it is asked, or its answer read. Raises ApiError when the connection breaks."""
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        what = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if isinstance(error, http.client.IncompleteRead):
            what = "its answer breaks off"
        raise ApiError(f"forwarder {name!r} {not_so}: {what}") from error


def _pieces(name: str, answer: http.client.HTTPResponse) -> Iterator[bytes]:
    with _answering(name, "has ended the capture"):
        yield from iter(partial(answer.read1, 1 << 16), b"")


def _refusal(name: str, answer: http.client.HTTPResponse) -> Exception:
    content = answer.read()
    try:
        said = str(json.loads(content)["detail"])
    except (ValueError, KeyError, TypeError):
        said = f"forwarder {name!r} answers {answer.status} {answer.reason}"
    return ConfigError(said) if answer.status in WRONG else ApiError(said, answer.status)


class _Unix(http.client.HTTPConnection):
    """A connection to a forwarder's socket."""

    def __init__(self, name: str) -> None:
        super().__init__("localhost")
        self._name = name

    def connect(self) -> None:
        directory = runtime_directory() / self._name
        if not NAME.fullmatch(self._name):
            raise _not_there(self._name)
        try:
            refuse_foreign(directory)
            self.sock = unix.connect(directory / API_SOCKET, socket.SOCK_STREAM)
        except (FileNotFoundError, ConnectionRefusedError):
            raise _not_there(self._name) from None
        self.sock.settimeout(self.timeout)


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    try:
        if parts.scheme == "http" and parts.hostname and parts.port:
            return parts.hostname, parts.port
    except ValueError:  # a port that is no number
        pass
    raise ConfigError(f'{url}: is no address of an API; say "http://HOST:PORT"')


def _not_there(name: str) -> Exception:
    directory = runtime_directory()
    if not NAME.fullmatch(name) or not locked(directory / name):
        there = ", ".join(running()) or "none"
        return ArenaError(
            f"no forwarder named {name!r} is running (looked in {directory}); there are: {there}"
        )
    return ApiError(
        f"forwarder {name!r} serves no API: it is still starting, or a program's that has not called "
        "Forwarder.serve"
    )


def _named(only: Mapping[str, str]) -> dict[str, str]:
    """Filter's fields as the API calls them."""
    return {key.rstrip("_"): value for key, value in only.items() if value != ""}


def _worded(query: Mapping[str, Any]) -> list[tuple[str, str]]:
    plain = {True: "true", False: "false"}
    return [
        (key, plain[value] if isinstance(value, bool) else str(value))
        for key, value in query.items()
        if value is not None
    ]


def _built(kind: Any, value: Any) -> Any:
    """The value, with dataclasses where the type has them."""
    if get_origin(kind) is list:
        return [_built(get_args(kind)[0], item) for item in value]
    if isinstance(kind, UnionType):
        (kind,) = set(get_args(kind)) - {NoneType}
        return None if value is None else _built(kind, value)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        names = {field.name for field in fields(kind)}
        return kind(**{k: _built(hints[k], v) for k, v in value.items() if k in names})  # type: ignore[operator]
    return value
