"""Two workers and a virtio port with a pair of queues for each: who polls what, and who sends by what."""

import contextlib

import pytest

from backends import ACK, MANY, MERGED, PROTOCOL, RING_PACKED, SEVERAL, VERSION_1, Backend
from vforward import Forwarder, MemoryPort
from vforward.io.virtio import VirtioPort
from vforward.testing import packets as pk
from worker_worlds import World, flow_of, in_order, mix, udp

THEIRS, LAN_HOST = (pk.mac_bytes(f"02:00:00:00:0{k}:09") for k in (2, 1))
FLOWS, EACH = 30, 20


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


class Net:
    """A router between a memory port and a device in plain Python."""

    wait = World.wait
    node = World.node

    def __init__(self, router, path, packed, queues=2):
        self.router = router
        self.lans = [MemoryPort(), MemoryPort()]  # polled by different workers
        self.router.add_port("lan", self.lans[0], "10.0.1.1/24")
        self.router.add_port("other", self.lans[1], "10.0.3.1/24")
        self.port = VirtioPort(str(path), server=True, queues=queues, packed=packed)
        self.router.add_port("dev", self.port, "10.0.2.1/24")
        for host in range(9, 49):
            self.router.add_neighbor(f"10.0.1.{host}", LAN_HOST, "lan")
            self.router.add_neighbor(f"10.0.2.{host}", THEIRS, "dev")
        self.router.build()
        self.router.start()
        offered = VERSION_1 | PROTOCOL | MERGED | MANY | RING_PACKED
        self.device = Backend.connect(path, offered, SEVERAL | ACK, queues).begin()
        self.wait(lambda: self.port.ready)

    def to_device(self, packets):
        """Returns by pair what has come there."""
        got, due = [[] for _ in range(self.device.pairs)], 0
        for first in range(0, len(packets), 100):
            part = packets[first : first + 100]
            due += len(part)
            for k, lan in enumerate(self.lans):
                frames = [
                    pk.eth(lan.mac, LAN_HOST.hex(":"), 0x0800, packet)
                    for packet in part
                    if packet[21] % 2 == k  # by the source port
                ]
                assert lan.send(frames) == len(frames)

            def come(due=due):
                for pair, there in enumerate(got):
                    there += [one[14:] for one in self.device.receive(1, 0.001, pair)]
                return sum(map(len, got)) == due

            self.wait(come)
        return got

    def from_device(self, by):
        """Have packets sent by the pairs, in turn. Returns what has come out of lan."""
        got, due = [], 0
        for first in range(0, max(map(len, by)), 50):
            for pair, packets in enumerate(by):
                part = packets[first : first + 50]
                due += len(part)
                self.device.send(
                    [pk.eth(self.port.mac, THEIRS.hex(":"), 0x0800, packet) for packet in part],
                    pair=pair,
                )
            self.wait(lambda due=due: got.extend(self.lans[0].received()) or len(got) == due)
        return [frame[14:] for frame in got]


@contextlib.contextmanager
def net_of(path, packed, workers=2):
    with Forwarder("virtio-workers", workers=workers, buffers=16384) as router:
        net = Net(router, path, packed)
        with contextlib.closing(net.device):
            yield net


def back(packets):
    """The same flows, the other way."""
    return [
        udp(".".join(map(str, p[16:20])), ".".join(map(str, p[12:16])), 53,
            int.from_bytes(p[20:22], "big"), p[28:])
        for p in packets
    ]  # fmt: skip


@pytest.mark.parametrize("packed", [False, True])
def test_each_worker_has_a_pair(tmp_path, packed):
    with net_of(tmp_path / "sock", packed) as net:
        assert {(q.port, q.number): q.worker for q in net.router.placement.queues.values()} == {
            ("lan", 0): 0, ("other", 0): 1, ("dev", 0): 0, ("dev", 1): 1,
        }  # fmt: skip
        assert net.router.placement.owners["dev"] is None
        packets = mix(3, FLOWS, EACH)
        got = net.to_device(packets)
        assert all(map(in_order, got))
        flows = [{flow_of(packet) for packet in there} for there in got]
        assert flows[0]
        assert flows[1]
        assert not flows[0] & flows[1]
        sent = [*map(len, got)]
        net.wait(lambda: [net.node("dev-tx", worker) for worker in range(2)] == sent)
        returned = [back(there) for there in got]
        out = net.from_device(returned)
        assert in_order(out)
        assert len(out) == len(packets)
        assert [
            net.node(name, worker) for name, worker in (("dev-rx", 0), ("dev-rx-1", 1))
        ] == list(map(len, returned))
        net.router.move_queue("dev", 0, queue=1)
        assert len(net.from_device(returned)) == len(packets)
        assert net.node("dev-rx-1", 0) == len(returned[1])


def test_fewer_pairs_than_workers_are_one_senders(tmp_path):
    with net_of(tmp_path / "sock", packed=True, workers=3) as net:
        owner = net.router.placement.owners["dev"]
        assert owner == net.router.placement.queues["dev", 0].worker
        packets = mix(4, FLOWS, EACH)
        got = net.to_device(packets)
        assert all(map(in_order, got))
        assert all(got)
        net.wait(lambda: net.node("dev-tx", owner) == len(packets))
        assert len(net.from_device([back(there) for there in got])) == len(packets)


def test_tables(tmp_path):
    """A worker's queues to send by, and bells, are nobody else's."""
    port = VirtioPort(str(tmp_path / "sock"), server=True, queues=5)
    port.workers = 2
    port.open(1, None)
    _, tables = port.senders()
    owned = [set(one["queues"].tolist()) for one in tables]
    assert [len(one) for one in owned] == [3, 2]
    assert not owned[0] & owned[1]
    words = [one["port"].ctypes.data for one in tables]
    words += [one.tables["port"].ctypes.data for one in port.receivers()]
    assert len(set(words)) == 7
    assert len({fd for one in port.receivers() for fd in one.descriptors}) == 5
    port.close()
