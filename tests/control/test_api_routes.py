# SPDX-License-Identifier: Apache-2.0
"""Many routes in one call: the same as one by one, deletes first, each for itself."""

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vforward
from http_calls import call
from vforward.control import api_routes
from vforward.control.api_models import CHANGES_MAX, PROBLEMS_MAX
from vforward.errors import ConfigError
from vforward.io.memory import MemoryPort
from vforward.memory.place import API_SOCKET

PREFIXES = [f"10.{n}.0.0/{length}" for n in (16, 32, 48) for length in (16, 20, 24)]
HOPS = ("10.0.2.8", "10.0.2.9")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime") / "r"))
        with vforward.Forwarder("many", buffers=2048) as router:
            router.add_port("wan", MemoryPort(), ["10.0.2.1/24", "2001:db8::1/64"])
            router.build()
            router.start()
            router.serve()
            yield router, vforward.Client("many", timeout_s=120)


@pytest.fixture
def client(world):
    yield world[1]
    rows = configured(world[1])
    world[1].change_routes(delete=[{"prefix": prefix} for prefix in rows])
    assert not configured(world[1])


def configured(client):
    """By prefix, what is in force."""
    return {
        row["prefix"]: row["via"] for row in client.routes().rows if row["source"] == "configured"
    }


def test_what_is_withdrawn_goes_first(client):
    told = client.change_routes([{"prefix": "10.16.0.0/16", "via": HOPS[0]}])
    assert told == {"deleted": 0, "added": 1, "refused": 0, "problems": []}
    told = client.change_routes(
        add=[
            {"prefix": "10.16.0.0/16", "via": HOPS[1]},
            {"prefix": "2001:db8:1::/48", "via": "2001:db8::2"},
        ],
        delete=[{"prefix": "10.16.0.0/16"}],
    )
    assert (told["deleted"], told["added"]) == (1, 2)
    assert configured(client) == {"10.16.0.0/16": HOPS[1], "2001:db8:1::/48": "2001:db8::2"}
    assert client.change_routes() == {"deleted": 0, "added": 0, "refused": 0, "problems": []}


def test_what_is_refused_keeps_no_other_from_it(client):
    told = client.change_routes(
        add=[
            {"prefix": "10.16.0.0/16", "via": HOPS[0]},
            {"prefix": "10.17.0.0/16", "via": "10.77.0.1"},
            {"prefix": "10.18.0.0/16", "port": "none"},
            {"prefix": "10.19.0.0/16", "type": "blackhole"},
        ],
        delete=[{"prefix": "10.20.0.0/16"}, {"prefix": "10.20.0.0/16", "vrf": "red"}],
    )
    assert (told["added"], told["deleted"], told["refused"]) == (2, 0, 4)
    assert [(p["at"], p["status"], p["type"]) for p in told["problems"]] == [
        ("delete[0]", 404, "urn:vforward:not-found"),
        ("delete[1]", 404, "urn:vforward:not-found"),
        ("add[1]", 422, "urn:vforward:invalid"),
        ("add[2]", 422, "urn:vforward:invalid"),
    ]
    assert "10.20.0.0/16" in told["problems"][0]["detail"]
    assert "10.77.0.1" in told["problems"][2]["detail"]
    assert all(p["title"] and p["detail"] for p in told["problems"])
    assert set(configured(client)) == {"10.16.0.0/16", "10.19.0.0/16"}


def test_what_is_no_route_at_all_changes_nothing(client):
    good = {"prefix": "10.16.0.0/16", "via": HOPS[0]}
    for add, where in (
        ([good, {"prefix": "10.16.0.1/16", "via": HOPS[0]}], r"add\[1\]\.prefix: has host bits"),
        ([good, {"prefix": "10.17.0.0/16"}], r"add\[1\]\.type: is missing"),
        ([good, {**good, "weight": 1}], r"add\[1\]\.weight: is not a key here"),
    ):
        with pytest.raises(ConfigError, match=where):
            client.change_routes(add)
    with pytest.raises(ConfigError, match=r"delete\[0\]\.metric: is too small"):
        client.change_routes([good], [{"prefix": "10.16.0.0/16", "metric": -1}])
    assert not configured(client)


def test_of_very_many_that_are_refused_the_first_are_told(client):
    told = client.change_routes(delete=[{"prefix": f"10.{n}.0.0/16"} for n in range(16, 256)])
    assert told["refused"] == 240
    assert [p["at"] for p in told["problems"]] == [f"delete[{n}]" for n in range(PROBLEMS_MAX)]


def test_how_many_there_may_be(world, client):
    one = {"prefix": "10.16.0.0/16", "type": "blackhole"}
    assert client.change_routes([one] * CHANGES_MAX)["added"] == CHANGES_MAX
    body = {"add": [one] * (CHANGES_MAX + 1)}
    answer = call(world[0].arena.path / API_SOCKET, "PATCH", "/routes", body)
    assert (answer.status, answer.kind) == (422, "application/problem+json")


CHANGES = st.lists(
    st.tuples(st.booleans(), st.sampled_from(PREFIXES), st.sampled_from(HOPS)), max_size=40
)


@settings(max_examples=30)
@given(calls=st.lists(CHANGES, max_size=4), chunk=st.sampled_from([1, 3, 256]))
def test_against_a_dictionary(world, calls, chunk):
    """Any calls, whatever the chunks: what is in force is what a dictionary has in the end."""
    router, client = world
    model = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api_routes, "CHUNK", chunk)
        for changes in calls:
            delete = [prefix for add, prefix, _ in changes if not add]
            add = [(prefix, hop) for add, prefix, hop in changes if add]
            refused = sum(model.pop(prefix, None) is None for prefix in delete)
            told = client.change_routes(
                [{"prefix": prefix, "via": hop} for prefix, hop in add],
                [{"prefix": prefix} for prefix in delete],
            )
            model.update(add)
            assert told["refused"] == refused
    assert configured(client) == model
    for prefix in PREFIXES:
        address = int(ipaddress.ip_network(prefix).network_address) + 1
        covering = [p for p in model if ipaddress.ip_address(address) in ipaddress.ip_network(p)]
        assert bool(router.routing.fib4.lookup(address)) == bool(covering)
    client.change_routes(delete=[{"prefix": prefix} for prefix in model])
    router.routing.reclaim()
    router.routing.fib4.check()
    assert router.routing.fib4.retired == 0
