"""Configurations, ports and queues by the API and its client: what is in force then, what is refused."""

import threading

import pytest

import vforward
from vforward.control import config, reload_routes
from vforward.control.api_server import Tcp
from vforward.control.client import Client
from vforward.control.run import from_config
from vforward.errors import ApiError, ConfigError
from vforward.io.memory import MemoryPort

TEXT = """
forwarder = {name = "api-config", buffers = 2048}
ports.lan = {type = "memory", address = "10.0.1.1/24"}
ports.wan = {type = "memory", address = "10.0.2.1/24"}
routes = [{prefix = "10.9.0.0/16", via = "10.0.2.2"}]
firewall = {default = "permit"}
rules = [{action = "deny", name = "no", from = "@bad"}]
address_sets = {bad = ["10.66.0.0/16"], spare = ["10.67.0.0/16"]}
policers = {a = {type = "single-rate", rate = "1M", burst = 1500}}
"""
SECONDS = 60


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
    assert f"{file}:10: ports.x.type: is not a type of port" in str(caught.value)
    assert f"{file}:11: neighbors: is not an array of tables" in str(caught.value)
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


@pytest.mark.parametrize("prefix", ["30.0.0.0/8", "10.8.0.0/16"])
@pytest.mark.parametrize("many", [False, True])
def test_what_is_told_while_a_configuration_comes_in_force_stays(
    world, file, monkeypatch, prefix, many
):
    """Be it of the file or not: it waits, is in force then, and is kept."""
    router, client, _ = world
    read, tellers = reload_routes.read, []

    def tell():
        if many:
            Client("api-config").change_routes([{"prefix": prefix, "type": "blackhole"}])
        else:
            Client("api-config").add_route(prefix, type="blackhole")

    def read_slowly(*given):
        tellers.append(threading.Thread(target=tell))
        tellers[-1].start()
        tellers[-1].join(0.3)
        return read(*given)

    file.write_text(TEXT.replace("10.9.0.0/16", "10.8.0.0/16"))
    with monkeypatch.context() as patch:
        patch.setattr(reload_routes, "read", read_slowly)
        client.apply(file)
    tellers[0].join(SECONDS)
    kinds = {row["prefix"]: row["kind"] for row in client.routes().rows}
    assert kinds[prefix] == "blackhole"
    told = set(router.told.keys())
    assert ("routes", "default", prefix, "0") in told
    assert client.apply(file)["kept"] == [f"routes {prefix}"]
    assert client.apply(file, exact=True)["kept"] == []
    assert prefixes(client) == {"10.8.0.0/16"}


def test_what_a_file_has_replaced_is_not_told_again_with_the_rest_of_its_part(world, file):
    router, client, _ = world
    for name in ("a", "b"):
        client.set_policer(name, type="single-rate", rate="2M", burst=1500)
    file.write_text(TEXT.replace('"1M"', '"5M"'))
    assert client.apply(file)["kept"] == ["policers.b"]
    told = router.told.entries["firewall policers"]["is"]
    assert {name: one["rate"] for name, one in told.items()} == {"a": 5_000_000, "b": 2_000_000}


def test_sets_that_others_took_the_place_of_are_known_as_deleted(world, file):
    router, client, _ = world
    client.set_rules([], address_sets={"mine": ["10.1.0.0/16"]})
    kept = ["address_sets.bad", "address_sets.mine", "address_sets.spare", "rules"]
    assert sorted(client.apply(file)["kept"]) == kept
    assert set(router.firewall.wanted.sets.addresses) == {"mine"}
    client.apply(file, exact=True)
    assert set(router.firewall.wanted.sets.addresses) == {"bad", "spare"}
    assert [rule.name for rule in router.firewall.wanted.rules] == ["no"]


def test_rules_of_a_file_find_the_sets_that_they_name(world, file):
    """Though these were deleted at run time."""
    router, client, _ = world
    client.set_rules([], address_sets={"mine": ["10.1.0.0/16"]}, port_sets={})
    file.write_text(TEXT.replace('"no"', '"never"'))
    assert client.apply(file)["kept"] == ["address_sets.mine"]
    assert set(router.firewall.wanted.sets.addresses) == {"bad", "mine", "spare"}
    assert [rule.name for rule in router.firewall.wanted.rules] == ["never"]
    told = set(router.told.keys())
    assert ("address_sets", "mine") in told
    assert ("rules",) not in told


def test_of_many_routes_those_that_were_deleted_are_noted_with_their_metric(world, file):
    router, client, _ = world
    one = '{prefix = "10.7.0.0/16", type = "blackhole", metric = 7}'
    file.write_text(TEXT.replace("routes = [", f"routes = [{one}, "))
    client.apply(file)
    client.change_routes(delete=[{"prefix": "10.7.0.0/16"}, {"prefix": "10.5.0.0/16"}])
    assert client.apply(file)["kept"] == ["routes 10.7.0.0/16 metric 7"]
    assert router.told.entries["route default 10.7.0.0/16 7"]["gone"]
    assert client.apply(file, exact=True)["kept"] == []
    assert prefixes(client) == {"10.7.0.0/16", "10.9.0.0/16"}


def test_what_comes_and_goes_at_run_time_is_forgotten(world, file):
    """Else what is noted would grow for ever; what the file or one of routes has is noted."""
    _, client, path = world
    (path.parent / "routes").write_text("30.255.0.0/16 10.0.2.9\n")
    file.write_text(TEXT + 'route_files = [{file = "routes"}]\n')
    client.apply(file)
    for n in range(8):
        client.add_route(f"30.{n}.0.0/16", via="10.0.2.9")
        client.add_neighbor(f"10.0.2.{n + 10}", "02:00:00:00:00:09", "wan")
        client.set_policer(f"p{n}", type="single-rate", rate="2M", burst=1500)
        client.set_rules([], address_sets={f"s{n}": ["10.1.0.0/16"]}, port_sets={f"t{n}": [n]})
        client.delete_route(f"30.{n}.0.0/16")
        client.delete_neighbor(f"10.0.2.{n + 10}", "wan")
        client.delete_policer(f"p{n}")
    client.change_routes([{"prefix": f"31.{n}.0.0/16", "type": "blackhole"} for n in range(8)])
    client.change_routes(delete=[{"prefix": f"31.{n}.0.0/16"} for n in range(8)])
    client.set_rules([], address_sets={}, port_sets={})
    client.delete_route("30.255.0.0/16")
    client.delete_route("10.9.0.0/16")
    sets = ["address_sets.bad", "address_sets.spare"]
    routes = ["routes 10.9.0.0/16", "routes 30.255.0.0/16"]
    assert sorted(client.apply(file)["kept"]) == [*sets, *routes, "rules"]
    assert client.apply(file, exact=True)["kept"] == []
    assert prefixes(client) == {"10.9.0.0/16", "30.255.0.0/16"}


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


def test_by_tcp_no_file_is_read_or_written(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "r"))
    secret, file, made = (tmp_path / name for name in ("secret", "r.toml", "made"))
    secret.write_text("words of a file of the forwarder's user\n")
    file.write_text(TEXT + f'route_files = [{{file = "{secret}"}}]\n')
    with from_config(config.parse(TEXT, str(tmp_path / "r.toml"))) as router:
        router.build()
        host, port = router.serve(Tcp("127.0.0.1", 0, "secret")).address
        client = Client(url=f"http://{host}:{port}", token="secret")
        for ask in (
            lambda: client.apply(file),
            lambda: client.apply(file, dry_run=True),
            lambda: client.add_port("more", type="pcap", write=str(made)),
            lambda: client.add_port("more", type="none"),
        ):
            with pytest.raises(ApiError, match=r"name files.*by the Unix socket only") as caught:
                ask()
            assert caught.value.status == 403
        assert not made.exists()
        assert [port.name for port in client.ports()] == ["lan", "wan"]
