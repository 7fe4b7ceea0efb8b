# SPDX-License-Identifier: Apache-2.0
"""Two daemons that want the same: the second does not start, says what is taken, and the first goes on."""

import socket

import pytest

from e2e.lab import ping, until
from e2e.process import MADE, daemon, refused
from vforward.control.client import Client

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"


def config(tmp_path, name, more="", text=MADE):
    file = tmp_path / f"{name}-{len(list(tmp_path.iterdir()))}.toml"
    file.write_text(text.format(name=name) + more)
    return file


def goes_on(name):
    client = Client(name)

    def sent():
        return next(port.tx.packets for port in client.ports() if port.name == "sink")

    before = sent()
    until(lambda: sent() > before, "it does not forward any more")


@pytest.fixture(scope="module")
def port_of_api():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def first(tmp_path_factory, runtime, port_of_api):
    """A daemon that has everything."""
    place = tmp_path_factory.mktemp("first")
    token = place / "token"
    token.write_text("0123456789abcdef")
    token.chmod(0o600)
    more = f"""
[api]
listen = "127.0.0.1:{port_of_api}"
token_file = "{token}"
[ports.guest]
type = "vhost-user"
socket = "{place}/guest"
[ports.memif]
type = "memif"
socket = "{place}/memif"
"""
    with daemon(config(place, "first", more)):
        yield place


def test_one_name(first, tmp_path):
    said = refused(config(tmp_path, "first"))
    assert "forwarder 'first' is already running" in said
    assert "stop it, or choose another [forwarder] name" in said
    goes_on("first")


def test_one_address_of_the_api(first, tmp_path, port_of_api):
    more = f"""
[api]
listen = "127.0.0.1:{port_of_api}"
token_file = "{first}/token"
"""
    said = refused(config(tmp_path, "second", more))
    assert f"127.0.0.1:{port_of_api}: Address already in use; choose another [api] listen" in said
    goes_on("first")


@pytest.mark.parametrize(
    ("kind", "socket_of", "why"),
    [
        ("vhost-user", "guest", "another process listens there"),
        ("memif", "memif", "Address already in use; is another server there?"),
    ],
)
def test_one_socket(first, tmp_path, kind, socket_of, why):
    more = f'[ports.same]\ntype = "{kind}"\nsocket = "{first}/{socket_of}"\n'
    said = refused(config(tmp_path, "second", more))
    assert f"{first}/{socket_of}" in said
    assert why in said
    goes_on("first")


ROUTER = f"""
[forwarder]
name = "{{name}}"
[ports.lan]
type = "af_packet"
interface = "lan"
mode = "MODE"
address = "{LAN}/24"
[ports.wan]
type = "af_packet"
interface = "wan"
mode = "MODE"
address = "{WAN}/24"
"""


@pytest.mark.root
@pytest.mark.parametrize("mode", ["ring", "xdp"])
def test_one_interface(place, tmp_path, mode):
    """Two would each forward every frame: the host would get all of them twice."""
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    text = ROUTER.replace("MODE", mode)
    with place.router.inside():
        with daemon(config(tmp_path, "one", text=text)) as process:
            said = refused(config(tmp_path, "other", text=text))
            assert "af_packet port on interface 'lan': another forwarder has it" in said
            assert f"(process {process.pid})" in said
            assert "3 received, 0% packet loss" in ping(place.h1, H2, "-c3", "-i0.01")
        with daemon(config(tmp_path, "other", text=text)):  # the first was killed
            assert "1 received" in ping(place.h1, H2, "-c1")
