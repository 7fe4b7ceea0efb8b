"""A worker with a vhost-user port, and what it does with the port's frames."""

from vforward.graph.build import Graph
from vforward.graph.worker import Worker
from vforward.io import shim
from vforward.io.generator import GeneratorPort
from vforward.io.libc import libc_address
from vforward.io.memory import MemoryPort
from vforward.io.vhost import VhostUserPort
from vforward.memory.pool import Pool
from wire import SINK


class World:
    """what: "echo" sends back what comes; "sink" swallows it; "source" besides sends count frames;
    "program" has a memory port behind it, far.
    """

    def __init__(self, arena, path, what="echo", *, count=0, server=True, **settings):
        self.pool = Pool(arena, 4096)
        self.graph = Graph(arena, self.pool)
        self.graph.add(SINK, "drop")
        self.far = None
        self.port = self.make_port(path, server, settings)
        self.port.open(1, self.pool)
        node, tables = self.port.tx()
        self.graph.add(node, "tx", **tables)
        self.graph.wire("tx", "drop", "drop")
        leads_to = {"echo": "tx", "program": "far-tx"}.get(what, "drop")
        descriptors = self.port.descriptors()
        if what == "program":
            descriptors += self._add_program()
        for number, (node, tables, _) in enumerate(self.port.receivers()):
            name = self.graph.add(node, f"rx-{number}" if number else "rx", **tables)
            self.graph.wire(name, "next", leads_to)
        if what == "source":
            generator = GeneratorPort(count=count)
            generator.open(2, self.pool)
            node, tables = generator.rx()
            self.graph.add(node, "made", **tables)
            self.graph.wire("made", "next", "tx")
        self.worker = Worker(
            self.graph.build(),
            descriptors=descriptors,
            poll=shim.address("vf_ppoll"),
            read=libc_address("read"),
        )
        self.worker.prepare()
        self.port.attach(self.worker.quiesce)
        if what != "source":
            self.worker.start()

    def _add_program(self):
        """Returns what the worker is to be woken by."""
        self.far = MemoryPort()
        self.far.open(2, self.pool)
        for (node, tables), name, edge, to in (
            (self.far.tx(), "far-tx", "drop", "drop"),
            (self.far.rx(), "far-rx", "next", "tx"),
        ):
            self.graph.add(node, name, **tables)
            self.graph.wire(name, edge, to)
        return self.far.descriptors()

    def make_port(self, path, server, settings):
        return VhostUserPort(str(path), server=server, **settings)

    def counts(self, name):
        """Of "rx": of all receive nodes."""
        members = self._members(name)
        sums = sum(member.counts for member in members)
        return dict(zip(members[0].node.counter_labels, sums.tolist(), strict=True))

    def moved(self, name):
        """How many packets a node was given, or has received."""
        stats = self.worker.plan.stats.reshape(len(self.graph.order), -1)
        return sum(int(stats[member.number, 1]) for member in self._members(name))

    def sent(self, length=60):
        """How many frames of that length are in the peer's queues, or were: of those given to tx."""
        return self.counts("tx")["bytes"] // length

    def _members(self, name):
        members = self.graph.members
        return [members[one] for one in members if one == name or one.startswith(f"{name}-")]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            self.close()
        else:  # a test that failed leaves no thread in memory that goes
            self._end()

    def _end(self):
        self.worker.close()
        self.port.close()
        if self.far is not None:
            self.far.close()

    def close(self):
        self._end()
        assert self.pool.free == self.pool.size
        self.pool.check()


def let_go(world):
    """How many peers its port has let go, by reason, as its receive node counts them."""
    counts = world.counts("rx").items()
    return {label.removeprefix("let-go-"): n for label, n in counts if n and "let-go-" in label}
