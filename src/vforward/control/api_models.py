# SPDX-License-Identifier: Apache-2.0
"""What the API says and is told, as types: FastAPI makes the OpenAPI document of them.

Rows that control.observe has as dataclasses are those. What a change is told is as in the configuration's
file: a route is a table of [[routes]], a rule one of [[rules]].
"""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypedDict

from vforward.control.config_firewall import Rule
from vforward.control.config_routes import Route
from vforward.control.config_types import (
    DEFAULT_VRF,
    NAME,
    Many,
    Model,
    Prefix,
    VrfName,
    matching,
    whole,
)

TEXT_MAX = 200
"""Characters of a name or a text in a request."""
TRACED_MAX = 10_000
WAIT_S_MAX = 600.0
SESSIONS_MOST = 100_000
RULES_MAX = 100_000
SETS_MAX = 10_000
CHANGES_MAX = 10_000
"""Routes that one call adds, and that it deletes: more would keep other calls waiting for seconds."""
PROBLEMS_MAX = 100
FILTER_MAX = 1000
PATH_MAX = 4096
CAPTURE_S_MAX = 86_400.0
SNAP = 65549
PLACE_MAX = 4096


class Fault(BaseModel):
    """A place in a request, and what is wrong there."""

    at: str
    what: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    model_config = ConfigDict(extra="forbid")

    type: Annotated[str, Field(description="a URN that names the kind of problem")]
    title: str
    status: int
    detail: str
    errors: Annotated[list[Fault], Field(description="of a request that is wrong")] = []


class About(TypedDict):
    """A forwarder. state: of its worker. config: the file it came from. started: seconds since 1970."""

    name: str
    version: str
    pid: int
    started: float
    state: str
    vector: int
    config: str | None
    vrfs: list[str]


class PathRow(TypedDict):
    """A next hop of a route."""

    via: str
    port: str
    weight: int


class RouteRow(TypedDict, total=False):
    """A route that is in force."""

    prefix: str
    kind: str
    via: str
    paths: list[PathRow]
    port: str
    metric: int
    vrf: str
    source: str


class NeighborRow(TypedDict):
    """A neighbor. age: seconds in its state, None for a static one."""

    address: str
    mac: str
    port: str
    state: str
    age: float | None


class BridgeRow(TypedDict):
    """A bridge."""

    bridge: str
    ports: list[str]
    macs: int
    moves: int


class MacRow(TypedDict):
    """Who is behind a port of a bridge. age: seconds since it was last heard, None for a static one."""

    bridge: str
    mac: str
    port: str
    static: bool
    age: float | None


class RuleRow(TypedDict):
    """A rule, in the words of the configuration; number None: what no rule matched."""

    number: int | None
    name: str
    action: str
    match: str
    then: str
    packets: int
    bytes: int


class NatRow(TypedDict):
    """A rule of NAT; allocated and exhausted are its pool's."""

    number: int
    name: str
    type: str
    match: str
    new: str
    sessions: int
    allocated: int | None
    exhausted: int | None


class PolicerRow(TypedDict):
    """A policer, and what it has seen by colour."""

    name: str
    what: str
    green_packets: int
    yellow_packets: int
    red_packets: int
    green_bytes: int
    yellow_bytes: int
    red_bytes: int


SessionRow = TypedDict(
    "SessionRow",
    {
        "protocol": str | int,
        "from": str,
        "to": str,
        "nat_from": str,
        "nat_to": str,
        "state": str,
        "age": int,
        "idle": int,
        "in": str,
        "out": str,
        "rule": str,
        "vrf": str,
    },
)
"""A session; nat_from and nat_to are what NAT makes of its ends, empty where it leaves them."""


class Routes(TypedDict):
    """The first routes, and how many there are."""

    count: int
    rows: list[RouteRow]


class Neighbors(TypedDict):
    """The first neighbors, and how many there are."""

    count: int
    rows: list[NeighborRow]


class Macs(TypedDict):
    """The first MACs, and how many there are."""

    count: int
    rows: list[MacRow]


class Rules(TypedDict):
    """The first rules, and how many there are."""

    count: int
    rows: list[RuleRow]


class SessionsFound(TypedDict):
    """The first sessions that were found, how many there are in all, and how many in each state."""

    count: int
    by_state: dict[str, int]
    rows: list[SessionRow]


class Done(TypedDict):
    """How many things were changed."""

    count: int


class TraceWish(Model):
    """Which packets to follow: the next ones, of one input node if it is named."""

    count: Annotated[int, Field(ge=1, le=TRACED_MAX)] = 1
    node: Annotated[str, Field(max_length=TEXT_MAX)] = ""
    timeout_s: Annotated[float, Field(ge=0, le=WAIT_S_MAX)] = 10.0


_Items = list[str | int] | str | int
_Sets = dict[Annotated[str, matching(NAME)], _Items]


class RulesWish(Model):
    """All rules, and the sets that they name; without sets those that there are stay."""

    rules: Annotated[list[Rule], Field(max_length=RULES_MAX)]
    address_sets: Annotated[_Sets | None, Field(max_length=SETS_MAX)] = None
    port_sets: Annotated[_Sets | None, Field(max_length=SETS_MAX)] = None


class Place(TypedDict):
    """Where a rule stands."""

    number: int


class PluginWish(Model):
    """Where a plug-in is: a file's path, absolute or as the forwarder sees it, or an entry point's name.

    Of one that is replaced: empty, where it was.
    """

    place: Annotated[str, Field(max_length=PLACE_MAX)] = ""


class RouteName(Model):
    """Which configured route: without a metric the one with the lowest."""

    prefix: Prefix
    metric: Annotated[int | None, whole(0, 2**32 - 1)] = None
    vrf: VrfName = DEFAULT_VRF


class RoutesWish(Model):
    """Routes to delete, and then routes to add; each is done for itself."""

    delete: Annotated[tuple[RouteName, ...], Many, Field(max_length=CHANGES_MAX)] = ()
    add: Annotated[tuple[Route, ...], Many, Field(max_length=CHANGES_MAX)] = ()


class RefusedRoute(Problem):
    """Why one route of many was not changed. at: its place in the request, "add[17]"."""

    at: str


class RoutesChanged(BaseModel):
    """How many routes were changed; how many were not, and why, the first PROBLEMS_MAX of them."""

    deleted: int
    added: int
    refused: int
    problems: list[RefusedRoute]


class CaptureWish(Model):
    """What to capture: at a port or a node; filter: see docs/cli.md. 0: without end."""

    at: Annotated[str, Field(max_length=TEXT_MAX)]
    filter: Annotated[str, Field(max_length=FILTER_MAX)] = ""
    count: Annotated[int, Field(ge=0, le=2**53)] = 0
    seconds: Annotated[float, Field(ge=0, le=CAPTURE_S_MAX)] = 0
    snap: Annotated[int, Field(ge=16, le=SNAP)] = SNAP


class ConfigurationWish(Model):
    """A configuration. file: its path, which heads messages; relative paths in it count from there.

    dry_run: only say what would change. exact: undo what was changed at run time, too. skip_restart: leave
    what needs a restart as it is.
    """

    text: str
    file: Annotated[str, Field(max_length=PATH_MAX)] = ""
    dry_run: bool = False
    exact: bool = False
    skip_restart: bool = False


class ChangeRow(TypedDict):
    """A thing that differs. kind: added, deleted or changed; restart: why it needs one, or empty."""

    kind: str
    what: str
    before: str
    after: str
    restart: str


class Applied(TypedDict):
    """What was changed, or would be.

    routes_of_files: how many were added, changed and deleted. kept: what was changed at run time and stays.
    left: what needs a restart. stood_ms: for how long no input was polled; workers_stood_ms: no worker ran.
    """

    applied: bool
    changes: list[ChangeRow]
    routes_of_files: dict[str, int]
    kept: list[str]
    left: list[ChangeRow]
    stood_ms: float
    workers_stood_ms: float


class QueueWish(Model):
    """The worker that is to poll a queue, from 0."""

    worker: Annotated[int, Field(ge=0, le=1023)]
