"""Plug-ins by the API: on the Unix socket, and nowhere else."""

import pytest

import plugin_files
import vforward
from http_calls import call
from vforward.control.api_server import Tcp
from vforward.errors import ApiError, ConfigError
from vforward.io.memory import MemoryPort
from vforward.memory.place import API_SOCKET


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    with vforward.Forwarder("api", buffers=2048) as router:
        router.add_port("lan", MemoryPort(), "10.0.1.1/24")
        router.build()
        server = router.serve(Tcp("127.0.0.1", 0, "secret"))
        yield router, vforward.Client("api"), server.address


def test_from_load_to_unload(world, tmp_path):
    router, client, _ = world
    router.start()
    place = plugin_files.write(tmp_path / "probe.py")
    assert client.plugins() == []
    change = client.load_plugin(place)
    assert (change.name, change.begun) == ("probe", ["seen"])
    assert "probe" in [node.name for node in client.graph()]
    assert [row.name for row in client.plugins()] == ["probe"]
    assert client.replace_plugin("probe").kept == ["seen"]
    assert client.unload_plugin("probe").name == "probe"
    assert "probe" not in [node.name for node in client.graph()]
    assert client.plugins() == []


def test_what_is_refused(world, tmp_path):
    _, client, _ = world
    bad = plugin_files.write(tmp_path / "bad.py", "seen[0] = np.zeros(3)[0]")
    with pytest.raises(ConfigError, match=r"bad.py:\d+: .*zeros: this makes an array"):
        client.load_plugin(bad)
    (tmp_path / "bad.py").chmod(0o666)
    with pytest.raises(ConfigError, match="others must not be able to write"):
        client.load_plugin(bad)
    with pytest.raises(ConfigError, match="no entry point of that name"):
        client.load_plugin("nothing-of-that-name")
    for ask in (client.unload_plugin, client.replace_plugin):
        with pytest.raises(
            ApiError, match="no plug-in 'none' is loaded; there are: none"
        ) as caught:
            ask("none")
        assert caught.value.status == 404


def test_by_tcp_code_is_not_run(world, tmp_path):
    router, _, (host, port) = world
    client = vforward.Client(url=f"http://{host}:{port}", token="secret")
    assert client.plugins() == []  # to look is harmless
    place = plugin_files.write(tmp_path / "probe.py", before="raise RuntimeError('was run')")
    for ask in (
        lambda: client.load_plugin(place),
        lambda: client.replace_plugin("probe", place),
        lambda: client.unload_plugin("probe"),
    ):
        with pytest.raises(ApiError, match="by the Unix socket only") as caught:
            ask()
        assert caught.value.status == 403
    assert router.plugins.helper._process is None  # nothing was even tried


def test_requests_that_are_wrong(world):
    router, _, _ = world
    path = router.arena.path / API_SOCKET
    for body in (b"{", b'{"place": 3}', b'{"place": "%s"}' % (b"x" * 5000), b'{"other": 1}'):
        status, _, content = call(path, "POST", "/nodes", body)
        assert status in (400, 422), content
