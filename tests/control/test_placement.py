"""Which worker polls and sends what; and that a queue that moves loses nothing."""

import threading

import pytest

from vforward import Masquerade, Rule
from vforward.control.placement import Placement
from vforward.errors import ConfigError, VforwardError
from vforward.io.memory import MemoryPort
from vforward.io.null import NullPort
from worker_worlds import World, in_order, mix

OPEN = (Rule(name="out", action="permit", in_="lan"),)


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


class Queues(MemoryPort):
    """A port of several queues."""

    n = 3

    def receivers(self):
        return super().receivers() * self.n

    def senders(self):
        node, (tables,) = super().senders()
        return node, [tables] * self.n


@pytest.fixture
def ports():
    made = [("a", MemoryPort()), ("b", MemoryPort()), ("many", Queues()), ("c", MemoryPort())]
    return [*made, ("null", NullPort())]


def test_queues_go_to_workers_in_turn(ports):
    two = Placement(ports, 3)
    polled = {key: queue.worker for key, queue in two.queues.items()}
    assert polled == {
        ("a", 0): 0, ("b", 0): 1, ("many", 0): 0, ("many", 1): 1, ("many", 2): 2, ("c", 0): 0,
    } | {("c", 0): polled["c", 0]}  # fmt: skip
    assert two.owners["many"] is None
    assert two.owners["a"] == 0
    assert two.owners["b"] == 1
    assert two.owners["null"] in (0, 1, 2)


def test_who_sends_by_a_port_goes_by_what_it_is_now():
    """A name may be another port's by now: what two workers send by that is for one breaks."""
    several, one = (Placement([("a", port)], 3) for port in (Queues(), MemoryPort()))
    several.queues["a", 0].worker = 2
    assert several.owners["a"] is None
    one.follow(several)
    assert one.owners["a"] == one.queues["a", 0].worker == 2
    several.follow(one)
    assert several.owners["a"] is None


def test_one_worker_has_all(ports):
    one = Placement(ports, 1)
    assert {queue.worker for queue in one.queues.values()} == {0}


@pytest.mark.parametrize("firewall", [False, True])
def test_a_queue_that_moves_under_traffic_loses_nothing(firewall):
    """And no packet overtakes another of its flow, wherever the port's packets are sent from."""
    options = {"firewall": True, "rules": OPEN, "nat": [Masquerade(out="wan")]} if firewall else {}
    with World(2, **options) as world:
        world.router.start()
        got, stop = [], threading.Event()

        def move():
            worker = 0
            while not stop.is_set():
                worker = 1 - worker
                for port in ("lan", "wan"):
                    world.router.move_queue(port, worker)
                    moves.append(port)

        moves = []
        thread = threading.Thread(target=move)
        thread.start()
        try:
            packets = mix(5, flows=20, per_flow=300)
            for first in range(0, len(packets), 100):
                world.send(world.lan, packets[first : first + 100])
                want = first + 100
                world.wait(lambda want=want: got.extend(world.take(world.wan)) or len(got) == want)
        finally:
            stop.set()
            thread.join()
        assert len(moves) > 4
        assert in_order(got)
        assert not world.drops()


def test_what_cannot_be_moved_is_said():
    with World(2) as world:
        with pytest.raises(
            ConfigError, match="no queue 1 of port 'lan'; there are: lan queue 0, wan"
        ):
            world.router.move_queue("lan", 1, queue=1)
        with pytest.raises(ConfigError, match="no worker 2; there are 0 to 1"):
            world.router.move_queue("lan", 2)
        world.router.move_queue("lan", 0)  # where it is
        world.router.move_queue("lan", 1)
        assert world.router.placement.owners == {"lan": 1, "wan": 1}
        packets = mix(6, flows=5, per_flow=9)
        assert len(world.exchange(world.lan, packets)[1]) == len(packets)
        assert world.node("output-take-up") == 0


def test_where_there_is_no_queue_none_is_said():
    with pytest.raises(ConfigError, match="no queue 0 of port 'null'; there are: none"):
        Placement([("null", NullPort())], 1).move("null", 0, 0)


def test_a_worker_that_does_not_answer_keeps_its_queue(monkeypatch):
    with World(2) as world:
        monkeypatch.setattr(world.router.workers, "quiesce", lambda *_: False)
        with pytest.raises(VforwardError, match="did not answer; its queue stays where it was"):
            world.router.move_queue("lan", 1)
        monkeypatch.undo()
        packets = mix(6, flows=5, per_flow=9)
        assert len(world.exchange(world.lan, packets)[1]) == len(packets)
        assert world.node("lan-rx", 0) == len(packets)
