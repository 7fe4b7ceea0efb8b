# SPDX-License-Identifier: Apache-2.0
"""The API under requests that its own OpenAPI document allows, and under those that it does not.

schemathesis makes them of the document, for each call. No answer may be a fault, every answer is one that
the document names, of the shape that it says, and every refusal is a problem of RFC 9457. What the document
does not allow is refused.
"""

import contextlib
from collections import Counter

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from vforward.control import config
from vforward.control.api import make_app
from vforward.control.api_models import CAPTURE_S_MAX, WAIT_S_MAX
from vforward.control.observe import View
from vforward.control.run import from_config
from vforward.memory.arena import Arena
from vforward.testing import packets as pk
from vforward.testing.namespaces import available, namespaces

CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
EXAMPLES = 25
HOST, NEXT = "02:00:00:00:01:09", "02:00:00:00:02:09"


CONFIG = f"""
[forwarder]
name = "fuzzed"
buffers = 2048
[ports.lan]
type = "memory"
address = ["10.0.1.1/24", "2001:db8::1/64"]
[ports.wan]
type = "memory"
address = "10.0.2.1/24"
[ports.spare]
type = "null"
[firewall]
default = "permit"
[[neighbors]]
address = "10.0.2.9"
mac = "{NEXT}"
port = "wan"
"""
ROUTE = """
[[routes]]
prefix = "10.9.0.0/16"
via = "10.0.2.9"
"""
OTHER = CONFIG.replace("[ports.spare]", "[ports.other]") + ROUTE
APPLY, ADD, DELETE = "POST /configuration", "PUT /ports/{name}", "DELETE /ports/{name}"
FILES = ("read", "write", "socket")
"""Keys of ports that are paths."""


class World:
    """A router as its configuration says, the API, and what that answered: by call and status."""

    def __init__(self, router):
        self.router, self.answers = router, Counter()
        app = make_app(View(Arena.attach(router.name)), router)
        self.schema = schemathesis.openapi.from_asgi("/openapi.json", app)

    def as_it_was(self):
        """What calls have changed is taken back."""
        self.router.reload.apply(config.parse(CONFIG, "fuzzed.toml"), exact=True)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """In a directory and, where that is allowed, a network of its own: ports make files and interfaces."""
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime") / "r"))
        patch.chdir(tmp_path_factory.mktemp("files"))
        if available():
            (own,) = stack.enter_context(namespaces("fuzzed"))
            stack.enter_context(own.inside())
        router = stack.enter_context(from_config(config.parse(CONFIG, "fuzzed.toml")))
        router.build()
        router.start()
        yield World(router)


def tamed(case):
    """Waits that the document allows are made short, and paths stay in the test's directory.

    What the document does not allow stays as it is.
    """
    if isinstance(case.body, dict):
        for key, most in {"timeout_s": WAIT_S_MAX, "seconds": CAPTURE_S_MAX}.items():
            value = case.body.get(key)
            if type(value) in (int, float) and 0 <= value <= most:
                case.body[key] = 0.01
        if case.operation.path in ("/traces", "/captures"):
            case.body.setdefault(
                "timeout_s" if "traces" in case.operation.path else "seconds", 0.01
            )
        for key in FILES:
            if isinstance(case.body.get(key), str):
                case.body[key] = case.body[key].replace("/", "_")
    return case


def steered(case, turn):
    """Every other call is about what there is, or can be: by chance that hardly happens."""
    if turn % 2:
        if case.operation.label == ADD:
            case.path_parameters["name"] = "added"
        elif case.operation.label == DELETE:
            case.path_parameters["name"] = "spare"
        elif case.operation.label == APPLY:
            case.body["text"] = OTHER
    return case


def answered(world, case, mode):
    call = case.operation.label
    if mode is GenerationMode.POSITIVE:
        case = steered(case, world.answers.total())
    answer = tamed(case).call_and_validate(checks=CHECKED)
    world.answers[call, answer.status_code] += 1
    if answer.status_code >= 400:
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["detail"]
    elif call in (APPLY, ADD, DELETE):
        world.as_it_was()


def operations(schema):
    """Each call that the document describes."""
    return [found.ok() for found in schema.get_all_operations()]


MODES = pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)


@MODES
def test_values_at_their_bounds_and_of_other_types(world, mode):
    """What the document says of each value, taken one by one: not by chance."""
    cases = 0
    for operation in operations(world.schema):
        how = world.schema.config.generation_for(operation=operation, phase="coverage")
        for case in world.schema.iter_coverage_cases(
            operation, generation_modes=[mode], generation_config=how
        ):
            answered(world, case, mode)
            cases += 1
    assert cases > 300
    works(world)


@MODES
def test_every_call(world, mode):
    calls = 0
    world.answers.clear()
    for operation in operations(world.schema):
        calls += 1

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            answered(world, case, mode)

        if mode is GenerationMode.POSITIVE or operation.body or any(operation.iter_parameters()):
            ask()  # a call that takes nothing cannot be asked wrongly
    assert calls > 25
    if mode is GenerationMode.POSITIVE:
        done = {call for call, status in world.answers if status == 200}
        assert done >= {APPLY, ADD, DELETE}, "they end before anything is done"
    works(world)


def works(world):
    """It forwards as before, once what was told is taken back."""
    world.as_it_was()
    router = world.router
    lan, wan = (router.interfaces.by_name[name].port for name in ("lan", "wan"))
    wan.received()
    udp = pk.ip4("10.0.1.9", "10.0.2.9", 17, pk.udp("10.0.1.9", "10.0.2.9", 1, 2, b"x"))
    lan.send([pk.eth(lan.mac, HOST, 0x0800, udp)])
    frames = []
    for _ in range(3000):
        frames += wan.received()
        if any(frame[:6] == pk.mac_bytes(NEXT) for frame in frames):
            return
        router.neighbors.wake()
        router.workers.quiesce()
    pytest.fail("no packet came through")
