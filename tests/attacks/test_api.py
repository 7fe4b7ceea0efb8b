# SPDX-License-Identifier: Apache-2.0
"""The API under requests that its own OpenAPI document allows, and under those that it does not.

schemathesis makes them of the document, for each call. No answer may be a fault, every answer is one that
the document names, of the shape that it says, and every refusal is a problem of RFC 9457. What the document
does not allow is refused.
"""

import contextlib

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

import vforward
from vforward.control.api import make_app
from vforward.control.api_models import CAPTURE_S_MAX, WAIT_S_MAX
from vforward.control.observe import View
from vforward.control.rules import FirewallSettings
from vforward.memory.arena import Arena
from vforward.testing import packets as pk

CHECKED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
EXAMPLES = 25
HOST, NEXT = "02:00:00:00:01:09", "02:00:00:00:02:09"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime") / "r"))
        router = stack.enter_context(vforward.Forwarder("fuzzed", buffers=2048))
        router.lan = router.add_port(
            "lan", vforward.MemoryPort(), ["10.0.1.1/24", "2001:db8::1/64"]
        )
        router.wan = router.add_port("wan", vforward.MemoryPort(), "10.0.2.1/24")
        router.set_firewall(FirewallSettings(default="permit"))
        router.build()
        router.start()
        app = make_app(View(Arena.attach("fuzzed")), router)
        yield router, schemathesis.openapi.from_asgi("/openapi.json", app)


def tamed(case):
    """Waits that the document allows are made short; what it does not allow stays as it is."""
    if isinstance(case.body, dict):
        for key, most in {"timeout_s": WAIT_S_MAX, "seconds": CAPTURE_S_MAX}.items():
            value = case.body.get(key)
            if type(value) in (int, float) and 0 <= value <= most:
                case.body[key] = 0.01
        if case.operation.path in ("/traces", "/captures"):
            case.body.setdefault(
                "timeout_s" if "traces" in case.operation.path else "seconds", 0.01
            )
    return case


def answered(case):
    answer = tamed(case).call_and_validate(checks=CHECKED)
    if answer.status_code >= 400:
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert problem["detail"]


MODES = pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)


@MODES
def test_values_at_their_bounds_and_of_other_types(world, mode):
    """What the document says of each value, taken one by one: not by chance."""
    router, schema = world
    cases = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        how = schema.config.generation_for(operation=operation, phase="coverage")
        for case in schema.iter_coverage_cases(
            operation, generation_modes=[mode], generation_config=how
        ):
            answered(case)
            cases += 1
    assert cases > 300
    works(router)


@MODES
def test_every_call(world, mode):
    router, schema = world
    calls = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        calls += 1

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            answered(case)

        if mode is GenerationMode.POSITIVE or operation.body or any(operation.iter_parameters()):
            ask()  # a call that takes nothing cannot be asked wrongly
    assert calls > 25
    works(router)


def works(router):
    """It forwards as before, once what was told is taken back."""
    router.set_rules([])
    router.set_nat([])
    for route in router.routing.routes():
        if route.source == "configured":
            router.delete_route(route.prefix, metric=route.metric)
    router.add_neighbor("10.0.2.9", pk.mac_bytes(NEXT), "wan")
    router.wan.received()
    udp = pk.ip4("10.0.1.9", "10.0.2.9", 17, pk.udp("10.0.1.9", "10.0.2.9", 1, 2, b"x"))
    router.lan.send([pk.eth(router.lan.mac, HOST, 0x0800, udp)])
    frames = []
    for _ in range(3000):
        frames += router.wan.received()
        if any(frame[:6] == pk.mac_bytes(NEXT) for frame in frames):
            return
        router.neighbors.wake()
        router.workers.quiesce()
    pytest.fail("no packet came through")
