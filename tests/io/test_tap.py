# SPDX-License-Identifier: Apache-2.0
"""TapPort between namespaces: the kernel's ARP, ping and TCP over the interface, raw frames, errors."""

import contextlib
import hashlib
import select
import socket
import threading
import uuid

import numpy as np
import pytest

from vforward.errors import PortError
from vforward.graph import control as c
from vforward.graph.build import Graph
from vforward.graph.node import Labels, Node
from vforward.graph.scheduler import run
from vforward.io import linux, tap_rx
from vforward.io.null import swallow
from vforward.io.port import TxCount
from vforward.io.tap import TapPort
from vforward.layout import CSUM_PARTIAL, GSO
from vforward.memory.arena import Arena
from vforward.memory.pool import Pool
from vforward.testing.namespaces import namespaces
from vforward.testing.run_node import run_node

pytestmark = pytest.mark.root

MACS = (b"\x02\x00\x00\x00\x00\x0a", b"\x02\x00\x00\x00\x00\x0b")
IDLE = tap_rx.IDLE_ROUNDS


class NoEdge(Labels):
    pass


SINK = Node("sink", swallow, NoEdge, TxCount)


class Wire:
    """TAPs t in namespaces a and b: what one host sends, the other receives."""

    def __init__(self, a, b, buffers=4096, addresses=((), ()), **options):
        self.arena = Arena.create(f"test-{uuid.uuid4().hex[:12]}")
        self.pool = Pool(self.arena, buffers)
        self.hosts = (a, b)
        self.ports = [
            TapPort("t", mac, addresses=own, **options)
            for mac, own in zip(MACS, addresses, strict=True)
        ]
        self.graph = Graph(self.arena, self.pool)
        self.graph.add(SINK, "drop")
        self.thread = None
        try:
            for number, (host, port) in enumerate(zip(self.hosts, self.ports, strict=True)):
                with host.inside():
                    port.open(number, self.pool)
                self.graph.add(port.tx()[0], f"tx{number}", **port.tx()[1])
                self.graph.wire(f"tx{number}", "drop", "drop")
            for number, port in enumerate(self.ports):
                self.graph.add(port.rx()[0], f"rx{number}", **port.rx()[1])
                self.graph.wire(f"rx{number}", "next", f"tx{1 - number}")
            self.plan = self.graph.build()
            self.words = self.plan.words()
            run(self.words, True)  # compiles, which no host would wait for
        except BaseException:
            self.close()
            raise

    def rounds(self, vector=256):
        self.plan.control[c.VECTOR] = vector
        for _ in range(IDLE + 1):
            run(self.words, True)

    @contextlib.contextmanager
    def running(self):
        self.plan.control[c.VECTOR] = 256
        thread = threading.Thread(target=run, args=(self.words, False))
        thread.start()
        try:
            yield
        finally:
            self.plan.control[c.COMMAND] = c.STOP
            thread.join()
            self.plan.control[c.COMMAND] = c.RUN

    def counts(self, name):
        member = self.graph.members[name]
        return dict(zip(member.node.counter_labels, map(int, member.counts), strict=True))

    def close(self):
        for port in self.ports:
            port.close()
            port.close()
        self.pool.check()
        self.arena.close()


@pytest.fixture
def hosts():
    with namespaces("a", "b") as (a, b):
        yield a, b


@pytest.fixture(params=[1, 3])
def queues(request):
    """How many queues each TAP has."""
    return request.param


@contextlib.contextmanager
def wire(hosts, **options):
    made = Wire(*hosts, **options)
    try:
        yield made
    finally:
        made.close()


def raw(host):
    """A plain packet socket on a host's TAP. Own transmissions are not seen."""
    with host.inside():
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(linux.ETH_P_ALL))
        opened.bind(("t", linux.ETH_P_ALL))
    opened.setsockopt(linux.SOL_PACKET, 23, 1)  # PACKET_IGNORE_OUTGOING
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
    opened.settimeout(5)
    return opened


def numbered(length, n=0):
    """A frame of that length whose bytes tell it from others; local experimental ethertype."""
    body = bytes((n * 31 + i * 7) % 251 for i in range(length))
    return (MACS[1] + MACS[0] + b"\x88\xb5" + body)[:length]


def test_the_interface_is_as_asked_and_gone_after(hosts):
    a, _ = hosts
    with wire(hosts, mtu=1400) as w:
        shown = a.run("ip", "-d", "link", "show", "dev", "t")
        assert "mtu 1400" in shown
        assert "02:00:00:00:00:0a" in shown
        assert "tun type tap pi off vnet_hdr on" in shown
        assert "UP" in shown
        assert w.ports[0].mac == MACS[0]
        assert w.ports[0].descriptors()
    assert "does not exist" in a.run("ip", "link", "show", "dev", "t", check=False)
    assert w.ports[0].descriptors() == []


@pytest.mark.parametrize("vector", [1, 3, 256])
def test_frames_pass_unchanged(hosts, queues, vector):
    lengths = [14, 15, 59, 60, 61, 1513, 1514]
    with wire(hosts, queues=queues) as w, raw(hosts[0]) as a, raw(hosts[1]) as b:
        for sender, receiver in ((a, b), (b, a)):
            for n, length in enumerate(lengths):
                sender.send(numbered(length, n))
            w.rounds(vector)
            for n, length in enumerate(lengths):
                assert receiver.recv(1 << 16) == numbered(length, n)
        for name in ("rx0", "rx1", "tx0", "tx1"):
            counts = w.counts(name)
            assert counts.pop("bytes") == sum(lengths)
            assert not any(counts.values()), name
        assert w.counts("drop")["bytes"] == 0


def test_long_frames_are_chains(hosts, queues):
    with wire(hosts, queues=queues, mtu=9000) as w, raw(hosts[0]) as a, raw(hosts[1]) as b:
        for length in (1974, 1975, 3948, 3949, 9014):
            a.send(numbered(length))
            w.rounds()
            assert b.recv(1 << 16) == numbered(length)


def test_no_buffer_leaves_frames_where_they_are(hosts, queues):
    with wire(hosts, queues=queues, buffers=4) as w, raw(hosts[0]) as a, raw(hosts[1]) as b:
        for n in range(20):
            a.send(numbered(60, n))
        w.rounds()
        for n in range(20):
            assert b.recv(1 << 16) == numbered(60, n)
        assert w.counts("rx0")["no-buffer"] >= 4


def test_a_long_frame_that_finds_no_buffers_is_counted(hosts):
    with wire(hosts, buffers=4, mtu=9000) as w, raw(hosts[0]) as a, raw(hosts[1]) as b:
        a.send(numbered(9014))
        a.send(numbered(60))
        w.rounds()
        assert b.recv(1 << 16) == numbered(60)
        assert w.counts("rx0")["no-chain"] == 1


def test_down_is_counted_and_passes(hosts, queues):
    with wire(hosts, queues=queues) as w, raw(hosts[0]) as a, raw(hosts[1]) as b:
        hosts[1].run("ip", "link", "set", "dev", "t", "down")
        for n in range(10):
            a.send(numbered(60, n))
        w.rounds()
        assert w.counts("tx1")["link-down"] == 10
        hosts[1].run("ip", "link", "set", "dev", "t", "up")
        a.send(numbered(60, 10))
        w.rounds()
        b.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # that the interface was down
        assert b.recv(1 << 16) == numbered(60, 10)


def test_a_full_queue_is_counted(hosts):
    hosts[0].run("ip", "tuntap", "add", "dev", "t", "mode", "tap")
    hosts[0].run("ip", "link", "set", "dev", "t", "txqueuelen", "16")
    with wire(hosts) as w, raw(hosts[0]) as a, raw(hosts[1]) as b:
        for n in range(40):
            with contextlib.suppress(OSError):  # ENOBUFS: it may be told
                a.send(numbered(60, n))
        lost = w.ports[0].statistics()["kernel-queue-full"]
        assert 0 < lost < 40
        w.rounds()
        assert [b.recv(100) for n in range(40 - lost)] == [
            numbered(60, n) for n in range(40 - lost)
        ]
        w.ports[0].close()
        assert w.ports[0].statistics() == {"kernel-queue-full": lost}


def test_an_idle_tap_is_read_seldom(hosts):
    with wire(hosts) as w, raw(hosts[0]) as a, raw(hosts[1]) as b:
        w.rounds()
        tap = w.ports[0].rx()[1]["tap"]
        while int(tap[tap_rx.SKIP]) != IDLE - 1:
            run(w.words, True)
        a.send(numbered(60))
        for _ in range(IDLE - 1):
            run(w.words, True)
            assert w.counts("rx0")["bytes"] == 0
        run(w.words, True)
        assert b.recv(1 << 16) == numbered(60)


@pytest.mark.parametrize("forged", ["csum", "gso"])
def test_offload_fields_out_of_bounds_are_dropped(hosts, forged):
    """The kernel gives none such: by a pipe in the TAP's place."""
    with wire(hosts) as w:
        left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with left, right:
            right.setblocking(False)
            tap = w.ports[0].rx()[1]["tap"]
            mine, tap[tap_rx.FD] = int(tap[tap_rx.FD]), right.fileno()
            vnet = np.zeros(1, linux.VIRTIO_NET_HDR)
            if forged == "csum":
                vnet["flags"], vnet["csum_start"] = 1, 14 + 20 - 1  # in an IPv4 header
            else:
                vnet["gso_type"] = linux.VIRTIO_NET_HDR_GSO_TCPV4
            left.send(vnet.tobytes() + numbered(100))
            left.send(vnet.tobytes() + numbered(9000))
            left.send(bytes(10) + bytes(13))
            left.send(bytes(10))
            left.send(bytes(3))
            w.rounds()
            tap[tap_rx.FD] = mine
        counts = w.counts("rx0")
        assert (counts["bad-offload"], counts["truncated"]) == (2, 3)
        assert counts["bytes"] == 0


OWN = (("10.0.0.1/24", "2001:db8::1/64"), ("10.0.0.2/24", "2001:db8::2/64"))


@pytest.mark.parametrize("to", ["10.0.0.2", "2001:db8::2"])
def test_ping(hosts, queues, to):
    with wire(hosts, queues=queues, addresses=OWN) as w, w.running():
        said = hosts[0].run("ping", "-c", "5", "-i", "0.01", "-W", "2", to)
        assert "5 received" in said


def test_without_an_ip6_address_nothing_is_said(hosts):
    with wire(hosts, addresses=(("10.0.0.1/24",), ())) as w:
        w.rounds()
        assert w.counts("rx0")["bytes"] == w.counts("rx1")["bytes"] == 0


def test_tcp_crosses_with_its_offloads(hosts, queues):
    data = np.random.default_rng(1).bytes(20_000_000)
    digest = hashlib.sha256()
    with wire(hosts, queues=queues, addresses=OWN) as w, w.running():
        with hosts[1].inside():
            server = socket.create_server(("10.0.0.2", 5000))
        with hosts[0].inside():
            client = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        server.settimeout(20)
        client.settimeout(20)

        def send():
            with client:
                client.connect(("10.0.0.2", 5000))
                client.sendall(data)

        thread = threading.Thread(target=send)
        thread.start()
        with server:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(20)
                while block := connection.recv(1 << 18):
                    digest.update(block)
        thread.join()
    assert digest.digest() == hashlib.sha256(data).digest()
    longest = {int(flags) & (GSO | CSUM_PARTIAL) for flags in w.pool.meta["flags"]}
    assert GSO | CSUM_PARTIAL in longest  # super-frames crossed as such
    assert sum(w.counts("rx0").values()) - w.counts("rx0")["no-buffer"] == w.counts("tx1")["bytes"]


@pytest.mark.parametrize("own", ["10.0.0.1/24", "2001:db8::1/64"])
def test_replies_leave_by_the_tap_and_nothing_stays_behind(hosts, own):
    a, _ = hosts
    address, version = own.split("/")[0], "-6" if ":" in own else "-4"
    far = "2001:db8:9::9" if ":" in own else "192.0.2.9"
    rules, routes = (a.run("ip", version, what, "show") for what in ("rule", "route"))
    a.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/conf/all/rp_filter")
    with wire(hosts, addresses=((own,), ())) as w:
        assert "dev t" in a.run("ip", version, "route", "get", far, "from", address)
        assert f"lookup {w.ports[0].table}" in a.run("ip", version, "rule", "show")
        assert a.run("cat", "/proc/sys/net/ipv4/conf/t/rp_filter") == "2\n"
        main = a.run("ip", version, "route", "show", "table", "main")
        assert "default" not in main
    assert (rules, routes) == tuple(
        a.run("ip", version, what, "show") for what in ("rule", "route")
    )
    with wire(hosts, addresses=((own,), ()), host_routes=False):
        assert a.run("ip", version, "rule", "show") == rules


def test_a_link_local_address_needs_no_rule(hosts):
    a, _ = hosts
    with wire(hosts, addresses=(("fe80::ff:fe00:a/64",), ())) as w:
        shown = a.run("ip", "address", "show", "dev", "t")
        assert shown.count("inet6 fe80::ff:fe00:a/64") == 1  # as the kernel makes it of the MAC
        assert str(w.ports[0].table) not in a.run("ip", "-6", "rule", "show")


def test_addresses_come_and_go_while_open(hosts):
    a, _ = hosts
    with wire(hosts) as w:
        with a.inside():
            for own in ("10.0.0.1/24", "2001:db8::1/64"):
                w.ports[0].add_address(own)
                assert own in a.run("ip", "address", "show", "dev", "t")
                w.ports[0].delete_address(own)
                w.ports[0].delete_address(own)
                assert own not in a.run("ip", "address", "show", "dev", "t")
        assert "lookup 1000" not in a.run("ip", "rule", "show")


def test_an_interface_that_is_there_is_used_and_left(hosts):
    a, _ = hosts
    a.run("ip", "tuntap", "add", "dev", "t", "mode", "tap")
    with wire(hosts, addresses=(("10.0.0.1/24",), ())):
        assert "10.0.0.1" in a.run("ip", "address", "show", "dev", "t")
    assert "10.0.0.1" not in a.run("ip", "address", "show", "dev", "t")
    assert "10.0.0.1" not in a.run("ip", "rule", "show")


@pytest.mark.parametrize(
    ("name", "text"),
    [("", "no name"), ("x" * 16, "no name"), ("lo", "another kind"), ("t", "another process")],
)
def test_wrong_interfaces_are_named(hosts, name, text):
    with wire(hosts), Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena, hosts[0].inside():
        port = TapPort(name)
        with pytest.raises(PortError, match=rf"'{name}'.*{text}"):
            port.open(1, Pool(arena, 16))
        assert port.descriptors() == []


QUEUES = 4


def read_by_queue(w):
    """How many frames came by each queue of the first TAP."""
    return w.ports[0].rx()[1]["tap"].reshape(QUEUES, -1)[:, tap_rx.FRAMES].tolist()


def test_a_flow_has_one_queue_both_ways(hosts):
    """What the host answers comes by the queue by which the flow was sent to it."""
    with wire(hosts, queues=QUEUES, addresses=OWN) as w, w.running():
        for host, peer in ((hosts[0], "10.0.0.2"), (hosts[1], "10.0.0.1")):
            host.run("ping", "-c", "1", "-W", "2", peer)  # ARP is done with
        used = set()
        with contextlib.ExitStack() as stack:

            def made():
                one = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                one.settimeout(5)
                return one

            with hosts[1].inside():
                clients = [made() for _ in range(24)]
            with hosts[0].inside():
                echo = made()
                echo.bind(("10.0.0.1", 7))
            for client in clients:
                client.connect(("10.0.0.1", 7))
                for _ in range(5):
                    before = read_by_queue(w)
                    for n in range(10):
                        client.send(bytes([n]))
                        echo.sendto(*echo.recvfrom(100))
                        assert client.recv(100) == bytes([n])
                    came = np.subtract(read_by_queue(w), before).tolist()
                    if sum(came) == 10:  # else the kernel has asked for a MAC in between
                        break
                assert sorted(came) == [0] * (QUEUES - 1) + [10]
                used.add(came.index(10))
    assert len(used) > 1
    listed = ", ".join(map(str, read_by_queue(w)))
    assert w.ports[0].peer() == f"frames from the host by queue: {listed}"


def test_no_queue_starves(hosts):
    """A vector is full before all queues are empty: who filled it is last in the next round."""
    with wire(hosts, queues=2) as w, contextlib.ExitStack() as stack:
        taps = w.ports[0].rx()[1]["tap"].copy().reshape(2, -1)
        taps[:, tap_rx.SKIP] = 0
        for tap in taps:
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            one, other = (stack.enter_context(end) for end in pair)
            other.setblocking(False)
            tap[tap_rx.FD] = other.fileno()
            for n in range(8):
                one.send(bytes(10) + numbered(60, n))
        seen = []
        for _ in range(4):
            run_node(tap_rx.NODE, vector=4, tables={"tap": taps.reshape(-1)})
            seen.append(taps[:, tap_rx.FRAMES].tolist())
        assert seen == [[4, 0], [4, 4], [8, 4], [8, 8]]


def test_an_interface_of_another_number_of_queues(hosts):
    hosts[0].run("ip", "tuntap", "add", "dev", "t", "mode", "tap", "multi_queue")
    for given, text in ((1, "multi_queue"), (3, "")):
        port = TapPort("t", queues=given)
        refused = pytest.raises(PortError, match=text) if text else contextlib.nullcontext()
        with hosts[0].inside(), Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena, refused:
            port.open(1, Pool(arena, 16))
        port.close()
    with pytest.raises(PortError, match="1 to 16 queues, not 17"):
        TapPort("t", queues=17)


def test_in_a_namespace_by_its_path(hosts):
    """Whoever adds an address later is outside as well."""
    a, _ = hosts
    port = TapPort("t", addresses=["10.0.0.1/24"], netns=a.path, queues=2)
    with Arena.create(f"test-{uuid.uuid4().hex[:12]}") as arena:
        try:
            port.open(0, Pool(arena, 16))
            port.add_address("2001:db8::1/64")
            shown = a.run("ip", "address", "show", "dev", "t")
            assert "10.0.0.1/24" in shown
            assert "2001:db8::1/64" in shown
            assert "numqueues 2" in a.run("ip", "-d", "link", "show", "dev", "t")
        finally:
            port.close()
    assert "does not exist" in a.run("ip", "link", "show", "dev", "t", check=False)
    with pytest.raises(
        PortError, match="tap port on interface 't': network namespace 'no': there is"
    ):
        TapPort("t", netns="no").open(0, None)


def test_the_descriptor_wakes(hosts, queues):
    with wire(hosts, queues=queues) as w, raw(hosts[0]) as a:
        poll = select.poll()
        assert len(w.ports[0].descriptors()) == queues
        for descriptor in w.ports[0].descriptors():
            poll.register(descriptor, select.POLLIN)
        assert poll.poll(0) == []
        a.send(numbered(60))
        assert poll.poll(1000)
