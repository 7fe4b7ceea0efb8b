"""Configurations, ports and queues by the API and its client: what is in force then, what is refused."""

import pytest

import vforward
from vforward.control import config
from vforward.control.client import Client
from vforward.control.run import from_config
from vforward.errors import ApiError, ConfigError
from vforward.io.memory import MemoryPort

TEXT = """
forwarder = {name = "api-config", buffers = 2048}
ports.lan = {type = "memory", address = "10.0.1.1/24"}
ports.wan = {type = "memory", address = "10.0.2.1/24"}
routes = [{prefix = "10.9.0.0/16", via = "10.0.2.2"}]
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    directory = tmp_path_factory.mktemp("api-config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(directory / "r"))
        with from_config(config.parse(TEXT, str(directory / "r.toml"))) as router:
            router.build()
            router.serve()
            yield router, Client("api-config"), directory / "r.toml"


@pytest.fixture
def file(world):
    _, client, path = world
    yield path
    path.write_text(TEXT)
    client.apply(path, exact=True)


def prefixes(client):
    return {row["prefix"] for row in client.routes().rows if row["source"] == "configured"}


def test_a_file_is_applied_and_what_it_would_do_is_told_before(world, file):
    _, client, _ = world
    file.write_text(TEXT.replace("10.9.0.0/16", "10.8.0.0/16").replace('name = "api-config", ', ""))
    wanted = {"kind": "added", "what": "routes 10.8.0.0/16", "before": "", "restart": ""}
    told = client.apply(file, dry_run=True)
    assert told["applied"] is False
    assert {**wanted, "after": "via 10.0.2.2"} in told["changes"]
    assert prefixes(client) == {"10.9.0.0/16"}
    done = client.apply(file)
    assert done["applied"] is True
    assert done["changes"] == told["changes"]
    assert done["stood_ms"] >= done["workers_stood_ms"] > 0
    assert prefixes(client) == {"10.8.0.0/16"}


def test_all_that_is_wrong_is_told_and_nothing_is_changed(world, file):
    _, client, _ = world
    file.write_text(TEXT + 'ports.x = {type = "mem"}\nneighbors = 7\n')
    with pytest.raises(ConfigError) as caught:
        client.apply(file)
    assert f"{file}:6: ports.x.type: is not a type of port" in str(caught.value)
    assert f"{file}:7: neighbors: is not an array of tables" in str(caught.value)
    file.write_text(TEXT.replace("2048", "4096"))
    with pytest.raises(ConfigError, match="needs a restart: the pool is made at the start"):
        client.apply(file)
    assert client.apply(file, skip_restart=True)["left"][0]["what"] == "forwarder.buffers"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        client.apply(file.parent / "absent.toml")


def test_what_was_told_by_the_api_stays(world, file):
    _, client, _ = world
    client.add_route("30.0.0.0/8", via="10.0.2.9")
    client.add_neighbor("10.0.2.9", "02:00:00:00:00:09", "wan")
    file.write_text(TEXT.replace("10.9.0.0/16", "10.8.0.0/16"))
    done = client.apply(file)
    assert sorted(done["kept"]) == ["neighbors 10.0.2.9 at wan", "routes 30.0.0.0/8"]
    assert prefixes(client) == {"10.8.0.0/16", "30.0.0.0/8"}
    assert client.apply(file, exact=True)["kept"] == []
    assert prefixes(client) == {"10.8.0.0/16"}
    assert client.neighbors().rows == []


def test_ports(world, file):
    _, client, _ = world
    assert client.add_port("more", type="memory", address="10.0.3.1/24")["applied"]
    assert [port.name for port in client.ports()] == ["lan", "wan", "more"]
    assert "more-rx" in {node.name for node in client.runtime().nodes}
    with pytest.raises(ConfigError, match="there is a port 'more' already"):
        client.add_port("more", type="memory")
    with pytest.raises(ConfigError, match="type"):
        client.add_port("other", type="memo")
    assert client.delete_port("more")["applied"]
    assert [port.name for port in client.ports()] == ["lan", "wan"]
    with pytest.raises(ApiError, match=r"no port named 'more'; there are: \"lan\"") as caught:
        client.delete_port("more")
    assert caught.value.status == 404
    with pytest.raises(ConfigError, match=r"port wan is needed by: routes 10\.9\.0\.0/16"):
        client.delete_port("wan")


def test_queues(world):
    _, client, _ = world
    client.move_queue("lan", 0)
    for port, worker, wrong in (
        ("lan", 1, "no worker 1"),
        ("none", 0, "no queue 0 of port 'none'; there are: lan queue 0, wan"),
    ):
        with pytest.raises(ConfigError, match=wrong):
            client.move_queue(port, worker)


def test_a_forwarder_that_a_program_put_together_has_no_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "r"))
    (tmp_path / "r.toml").write_text(TEXT)
    with vforward.Forwarder("by-hand", buffers=2048) as router:
        router.add_port("lan", MemoryPort(), "10.0.1.1/24")
        router.build()
        router.serve()
        with pytest.raises(ConfigError, match="put together by a program"):
            Client("by-hand").apply(tmp_path / "r.toml")
