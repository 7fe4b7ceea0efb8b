# SPDX-License-Identifier: Apache-2.0
"""`vforward run` killed with -9 and started again: who talks through it notices a pause, nothing else."""

import contextlib
import hashlib
import os
import random
import socket
import subprocess
import threading
import time

import numpy as np
import pytest

from e2e.lab import LONG, udp_pair, until
from e2e.process import command
from e2e.talk import Talk
from vforward.control.client import Client
from vforward.errors import ApiError, VforwardError

pytestmark = pytest.mark.root

LAN, WAN, H1, H2 = "10.1.0.1", "10.2.0.1", "10.1.0.2", "10.2.0.2"
NAME = "again"
KILLS = int(os.environ.get("VFORWARD_KILLS", "50"))
CONFIG = f"""
[forwarder]
name = "{NAME}"
workers = {{workers}}
[log]
level = "info"
[ports.lan]
type = "af_packet"
interface = "lan"
address = "{LAN}/24"
[ports.wan]
type = "af_packet"
interface = "wan"
address = "{WAN}/24"
[[routes]]
prefix = "10.77.0.0/16"
via = "{H2}"
[firewall]
default = "deny"
[[rules]]
name = "out"
action = "permit"
in = "lan"
[[nat]]
type = "masquerade"
out = "wan"
"""


class Supervised:
    """A daemon that is started again as soon as it has ended, as by a supervisor."""

    def __init__(self, place, file):
        self.log = file.with_suffix(".log")
        self.log.touch()
        self.starts = 0
        self.process = None
        self._place, self._file = place, file
        self._stopping = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.ready(1)

    def _run(self):
        with self.log.open("ab") as written:
            while not self._stopping:
                with self._place.router.inside():
                    self.process = subprocess.Popen(
                        command("run", self._file), stdout=written, stderr=subprocess.STDOUT
                    )
                self.starts += 1
                self.process.wait()

    def text(self):
        return self.log.read_text(errors="replace")

    def said(self):
        """How often a daemon has said that it forwards."""
        return self.text().count("forwarding:")

    def ready(self, times):
        until(lambda: self.said() >= times, self.text, 280)

    def kill(self):
        """Kill -9, and return when the next one has been started."""
        before = self.starts
        self.process.kill()
        until(lambda: self.starts > before, self.text)

    def close(self):
        self._stopping = True
        self.process.terminate()
        self._thread.join(LONG)


@pytest.fixture(params=[1, 2], ids=["one worker", "two workers"])
def net(place, tmp_path, runtime, request):
    """The hosts, and a daemon between them."""
    place.address(f"{H1}/24", f"{H2}/24")
    place.default_routes(LAN, WAN)
    file = tmp_path / "again.toml"
    file.write_text(CONFIG.format(workers=request.param))
    place.daemon = Supervised(place, file)
    place.arena = runtime / NAME
    try:
        yield place
    finally:
        place.daemon.close()


def test_a_transfer_goes_on(net):
    """TCP through firewall and masquerade, killed twice in its middle, arrives whole."""
    octets = 4 << 20
    data = np.random.default_rng(1).bytes(octets)
    arrived, came = hashlib.sha256(), []
    with net.h2.inside():
        server = socket.create_server((H2, 5000))
    with net.h1.inside():
        client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    def serve():
        server.settimeout(LONG)
        connection, address = server.accept()
        came.append(address)
        with connection:
            connection.settimeout(LONG)
            while block := connection.recv(1 << 16):
                arrived.update(block)
                came.append(len(block))

    thread = threading.Thread(target=serve)
    with server, client:
        client.settimeout(LONG)
        client.connect((H2, 5000))
        thread.start()
        for turn in range(2):
            half = data[turn * octets // 2 : (turn + 1) * octets // 2]
            client.sendall(half[: octets // 4])
            net.daemon.kill()
            client.sendall(half[octets // 4 :])
        client.shutdown(socket.SHUT_WR)
        thread.join(4 * LONG)
    assert arrived.digest() == hashlib.sha256(data).digest(), net.daemon.text()
    assert came[0][0] == WAN, "it went through NAT"
    assert "damaged" not in net.daemon.text()


def test_a_mapping_stays_and_counters_never_go_back(net):
    with udp_pair(net.h1, net.h2, H2) as (one, other):

        def mapping():
            one.settimeout(0.2)
            other.settimeout(0.2)

            def heard():
                with contextlib.suppress(OSError):
                    one.send(b"a")
                    return other.recvfrom(10)[1]

            source = until(heard, net.daemon.text)

            def answered():
                with contextlib.suppress(OSError):
                    other.sendto(b"b", source)
                    return one.recv(10) == b"b"

            until(answered, net.daemon.text)
            return source

        before = mapping()
        counts = counted()
        for turn in range(3):
            net.daemon.kill()
            net.daemon.ready(turn + 2)
            again = counted()
            assert {
                key: (n, again.get(key)) for key, n in counts.items() if again.get(key, 0) < n
            } == {}
            assert mapping() == before
            counts = counted()
    assert counts


def test_another_station_is_found_out_without_a_packet_for_it(net):
    """h2's MAC changes, which Linux tells nobody, and it is killed: who answers is h2 nonetheless."""
    new = "02:00:00:00:00:aa"
    with udp_pair(net.h1, net.h2, H2) as (one, other):
        one.send(b"a")
        other.recvfrom(10)

    def known():
        with contextlib.suppress(VforwardError, OSError):
            return {n["address"]: n for n in Client(NAME).neighbors().rows}
        return {}

    assert known()[H2]["mac"] != new
    net.h2.run("ip", "link", "set", "eth0", "address", new)
    net.daemon.kill()
    net.daemon.ready(2)
    found = until(lambda: known().get(H2, {}).get("mac") == new and known()[H2], net.daemon.text)
    assert found["state"] == "reachable"


def counted():
    """All counters that the metrics tell, but for those of time."""
    text = Client(NAME).metrics()
    rows = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {key: float(n) for key, n in rows if "_total" in key.partition("{")[0]}


THINGS = [
    *(("route", f"10.{n}.0.0/16") for n in (77, *range(100, 120))),
    *(("neighbor", f"10.2.0.{n}") for n in range(100, 110)),
    *(("rule", f"closed-{n}") for n in range(7000, 7010)),
]
"""What changes: its kind, and what it is called. None of it is anything to the packets of the tests."""


def add(client, kind, which):
    """Let there be a thing that is not there."""
    if kind == "route":
        client.add_route(which, via=H2)
    elif kind == "neighbor":
        client.add_neighbor(which, "02:00:00:00:00:99", "wan")
    else:
        closed = int(which.removeprefix("closed-"))
        rule = {"name": which, "action": "deny", "protocol": "tcp", "to_ports": closed}
        client.add_rule(rule, before="out")


def delete(client, kind, which):
    """Let a thing not be there, if it is."""
    try:
        if kind == "route":
            client.delete_route(which)
        elif kind == "neighbor":
            client.delete_neighbor(which, "wan")
        else:
            client.delete_rule(which)
    except ApiError as error:
        if error.status != 404:
            raise


def things(client):
    """Those that are there."""
    static = [row for row in client.neighbors().rows if row["state"] == "static"]
    found = {("route", row["prefix"]) for row in client.routes().rows}
    found |= {("neighbor", row["address"]) for row in static}
    found |= {("rule", row["name"]) for row in client.rules().rows}
    return found.intersection(THINGS)


class Changer:
    """Changes things as fast as it gets answers, and remembers what was acknowledged."""

    def __init__(self, seed, there):
        self.acknowledged = {thing: thing in there for thing in THINGS}
        """By thing: whether it is there. What was asked for and not answered is left out."""
        self.changed = set()
        """Kinds of things of which a change was acknowledged."""
        self.changes = 0
        self._chance = random.Random(seed)
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        while not self._stopping.is_set():
            try:
                client = Client(NAME)
                while not self._stopping.is_set():
                    self._change(client)
            except (VforwardError, OSError):
                time.sleep(0.01)

    def _change(self, client):
        thing = self._chance.choice(THINGS)
        there = self.acknowledged.pop(thing, True)
        delete(client, *thing) if there else add(client, *thing)
        self.acknowledged[thing] = not there
        self.changed.add(thing[0])
        self.changes += 1

    def stop(self):
        self._stopping.set()
        self.thread.join(LONG)


AGED_S = 3
"""How old the session is before the first kill: more than a new one could be when it is looked at."""


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_nothing_acknowledged_is_lost(net):
    """In traffic of one session, in changes, while it takes over from the one before."""
    chance = random.Random(7)
    in_takeover, changed = 0, set()
    with udp_pair(net.h1, net.h2, H2) as pair, Talk(*pair) as talk:
        talk.goes_on()
        until(lambda: age_of_session() >= AGED_S, "the session does not grow old")
        oldest, there = age_of_session(), things(Client(NAME))
        for turn in range(KILLS):
            changer = Changer(turn, there)
            try:
                until(lambda c=changer: c.changes >= 3, net.daemon.text)
                time.sleep(chance.random() * 0.3)
                net.daemon.kill()
                if turn % 2:  # and once more, while the next one is at it
                    until((net.arena / ".previous").exists, net.daemon.text)
                    time.sleep(chance.random())
                    in_takeover += (net.arena / ".previous").exists()
                    net.daemon.kill()
            finally:
                changer.stop()
            client = until(connected, net.daemon.text)
            there = things(client)
            wrong = {t: now for t, now in changer.acknowledged.items() if (t in there) != now}
            assert wrong == {}, (turn, net.daemon.text()[-2000:])
            changed |= changer.changed
            age = age_of_session()
            assert age >= oldest, (turn, "another one was begun", net.daemon.text()[-2000:])
            oldest = age
            talk.goes_on()
        assert len(talk.sources) == 1, talk.sources
    assert in_takeover or KILLS < 10
    assert changed == {kind for kind, _ in THINGS} or KILLS < 10
    assert "damaged" not in net.daemon.text()
    assert "lost" not in net.daemon.text()


def age_of_session():
    """Of the only one that there is, seconds. Where one begins anew it has the same addresses and ports."""
    (session,) = Client(NAME).sessions().rows
    return session["age"]


def connected():
    """A client whom the daemon answers, or None."""
    with contextlib.suppress(VforwardError, OSError):
        client = Client(NAME)
        client.routes()
        return client
    return None


def test_a_clean_stop_leaves_nothing(net, runtime):
    net.daemon.kill()
    net.daemon.ready(2)
    net.daemon.close()
    assert not (runtime / NAME).exists()
