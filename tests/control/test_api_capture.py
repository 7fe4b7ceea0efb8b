# SPDX-License-Identifier: Apache-2.0
"""Captures by the API, from a worker that forwards."""

import asyncio
import itertools
import threading
import time

import pytest
from typer.testing import CliRunner

import vforward
from vforward.control.api_capture import _content
from vforward.control.cli import app
from vforward.control.show_capture import records
from vforward.errors import ApiError, ConfigError
from vforward.io.memory import MemoryPort
from vforward.io.pcap_file import read_frames
from vforward.testing import packets as pk

HOST, NEXT = "02:00:00:00:01:09", "02:00:00:00:02:09"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A router that forwards, and somebody who sends all the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime") / "r"))
        with vforward.Forwarder("live", buffers=2048) as router:
            lan = router.add_port("lan", MemoryPort(), "10.0.1.1/24")
            wan = router.add_port("wan", MemoryPort(), "10.0.2.1/24")
            router.add_neighbor("10.0.2.9", pk.mac_bytes(NEXT), "wan")
            router.build()
            router.serve()
            router.start()
            end = threading.Event()

            def send():
                for n in itertools.count():
                    if end.wait(0.005):
                        return
                    udp = pk.udp("10.0.1.9", "10.0.2.9", 1000 + n % 10, 53, b"x")
                    lan.send(
                        [pk.eth(lan.mac, HOST, 0x0800, pk.ip4("10.0.1.9", "10.0.2.9", 17, udp))]
                    )
                    wan.received()

            sender = threading.Thread(target=send)
            sender.start()
            yield router
            end.set()
            sender.join()


@pytest.fixture
def client(world):
    return vforward.Client("live")


def quiet(client):
    """When no capture runs any more, how the last one stood."""
    deadline = time.monotonic() + 30
    while client.captures()[0].running:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return client.captures()[0]


def test_so_many_packets(client):
    with client.capture("wan", "port 1003", count=3) as pieces:
        found = list(records(pieces))
    assert len(found) == 3
    assert {packet.frame[:6] for packet in found} == {pk.mac_bytes(NEXT)}
    assert {packet.frame[34:36] for packet in found} == {(1003).to_bytes(2, "big")}
    progress = quiet(client)
    assert (progress.packets, progress.filter) == (3, "port 1003")


def test_so_many_seconds(client):
    with client.capture("lan", "tcp", seconds=0.2) as pieces:
        assert list(records(pieces)) == []
    assert quiet(client).unwanted > 0


def test_so_many_seconds_end_where_packets_never_do():
    class Endless:
        done, taken = False, 0

        def header(self):
            return b""

        def take(self):
            self.taken += 1
            assert self.taken < 10_000_000, "it does not end"
            return b"packet"

    async def read():
        return [part async for part in _content(Endless(), 0.05)]

    assert len(asyncio.run(asyncio.wait_for(read(), 60))) > 1


@pytest.mark.parametrize("text", ["", "tcp"])
def test_who_leaves_ends_it(client, text):
    with client.capture("lan", text) as pieces:
        next(pieces)
        with (
            pytest.raises(ApiError, match="captured from already") as caught,
            client.capture("wan"),
        ):
            pass
        assert caught.value.status == 409
    quiet(client)
    with client.capture("wan", count=1) as pieces:
        assert len(list(records(pieces))) == 1


def test_wrong_wishes(client):
    for wish, what in (
        ({"at": "none"}, "no port and no node 'none'"),
        ({"at": "lan", "filter": "("}, "filter: it ends"),
        ({"at": "lan", "count": -1}, "count: is too small"),
        ({"at": "lan", "snap": 1}, "snap: is too small"),
        ({"at": "x" * 300}, "at: "),
    ):
        with pytest.raises(ConfigError) as caught, client.capture(**wish):
            pass
        assert what in str(caught.value)


def test_nothing_is_left_of_it(world, client):
    with client.capture("lan", count=1) as pieces:
        list(pieces)
    quiet(client)
    control = world.workers[0].plan.control
    from vforward.graph import control as c

    assert (int(control[c.TRACING]), int(control[c.CAPTURE])) == (0, 0)


def test_the_command(client, tmp_path):
    def command(*arguments):
        return CliRunner().invoke(app, ["capture", *map(str, arguments), "-n", "live"])

    file = tmp_path / "x.pcap"
    result = command("wan", "udp", "and", "port", "1004", "-w", file, "-c", 2)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("vforward: 2 packets captured; ")
    assert len(read_frames(file)) == 2
    result = command("wan", "-c", 1)
    assert result.exit_code == 0
    assert "10.0.1.9 > 10.0.2.9" in result.stdout
    result = command("wan", "-c", 1, "--json", "-w", file)
    assert '"packets": 1' in result.stdout
    assert command("wan", "(").exit_code == 2
    assert command("wan", "-w", tmp_path / "none" / "x", "-c", 1).exit_code == 1
    quiet(client)
