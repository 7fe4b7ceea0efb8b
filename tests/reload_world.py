"""A router whose configuration changes under load, and what becomes of each packet by one configuration.

Packets come in at lan, numbered, for four networks. A configuration says for each by which port they
leave (routes, some from a file), with which DSCP (rules) and to which MAC (neighbors): all three are drawn
anew, so a packet that met a part of one configuration and a part of another is found out.

To a fifth network, TALKED, go the packets of SESSIONS sessions. Only the first configuration permits new
ones; later ones deny them, or have no rule for them. What a session has is its own: its packets come
through under each configuration, by the port and to the MAC that this one says, with the DSCP of the rule
that is no more.
"""

import random
import struct
import threading
import time
from dataclasses import dataclass, field, replace

from vforward.control import config
from vforward.control.run import from_config
from vforward.testing import packets as pk

OUTS = ("one", "two", "three")
NETWORKS = 4
TALKED = NETWORKS
SESSIONS = 8
OTHERS = 0xFFFFFFFF
"""Instead of a number, in packets that are none of the load's."""
LAN_MAC = "02:00:00:00:01:01"
SOURCE_MAC = "02:00:00:00:01:02"
DENY = "deny"
PERMIT, NONE = "permit", "none"
SESSIONS_MARK = 10
"""DSCP of the sessions' packets; no other rule sets it."""


@dataclass(frozen=True)
class State:
    """What is drawn of a configuration; the rest stands for what no packet here meets."""

    out: tuple[str, ...] = ("one",) * NETWORKS  # or "none"
    filed: tuple[bool, ...] = (False,) * NETWORKS
    mark: tuple = (0,) * NETWORKS  # or DENY
    macs: tuple[int, ...] = (1, 1, 1)
    talk_out: str = "one"
    talk: str = PERMIT  # new sessions; or DENY, or NONE: there is no rule, and the default denies
    extra: frozenset = frozenset()

    def outcome(self, network):
        """Port, MAC of the next hop and DSCP, or None: dropped."""
        if network == TALKED:
            return self.talk_out, self.macs[OUTS.index(self.talk_out)], SESSIONS_MARK
        out, mark = self.out[network], self.mark[network]
        if out == "none" or mark == DENY:
            return None
        return out, self.macs[OUTS.index(out)], mark


EXTRAS = {
    "vlan": 'ports.v7 = {type = "vlan", parent = "spare", vlan = 7, address = "10.7.0.1/24"}\n',
    "bridge": 'ports.x = {type = "vlan", parent = "spare", vlan = 8}\n'
    'ports.y = {type = "vlan", parent = "spare", vlan = 9}\n'
    'bridges.b = {ports = ["x", "y"], static = [{mac = "02:00:00:00:00:77", port = "y"}]}\n'
    'ports.inside = {type = "bvi", bridge = "b", address = "10.8.0.1/24"}\n',
    "set": 'address_sets.some = ["198.51.100.0/24"]\n',
    "policer": 'policers.slow = {type = "single-rate", rate = "1M", burst = 1500}\n',
    "port": 'ports.more = {type = "memory", address = "10.6.0.1/24"}\n',
    "log": 'log = {level = "error"}\n',
}


def text(state, directory, workers=1):
    """The configuration, and beside it the file of routes that it names."""
    extra = state.extra
    vector = 256 if "vector" in extra else 32
    lines = [
        f'forwarder = {{name = "reload", buffers = 65536, vector = {vector}, workers = {workers}}}\n'
    ]
    urpf = ', urpf = "loose"' if "urpf" in extra else ""
    lines.append(
        f'ports.lan = {{type = "memory", mac = "{LAN_MAC}", address = "10.0.1.1/24"{urpf}}}\n'
    )
    for k, name in enumerate(OUTS, 2):
        also = f', "10.1.{k}.1/24"' if f"address{k}" in extra else ""
        lines.append(f'ports.{name} = {{type = "memory", address = ["10.0.{k}.1/24"{also}]}}\n')
    lines.append('ports.spare = {type = "memory"}\n')
    lines += [EXTRAS[name] for name in sorted(extra) if name in EXTRAS]
    routes, rules, filed = [], [], []
    for n in range(NETWORKS):
        prefix = network(n)
        if state.out[n] == "none":
            routes.append(f'{{prefix = "{prefix}", type = "blackhole"}}')
        elif state.filed[n]:
            filed.append(f"{prefix} 10.0.{OUTS.index(state.out[n]) + 2}.2\n")
        else:
            routes.append(f'{{prefix = "{prefix}", via = "10.0.{OUTS.index(state.out[n]) + 2}.2"}}')
        if state.mark[n] == DENY:
            rules.append(f'{{action = "deny", to = "{prefix}", protocol = "udp"}}')
        else:
            rules.append(
                f'{{action = "permit", stateful = false, to = "{prefix}", mark = {state.mark[n]}}}'
            )
    routes.append(
        f'{{prefix = "{network(TALKED)}", via = "10.0.{OUTS.index(state.talk_out) + 2}.2"}}'
    )
    if state.talk != NONE:
        mark = f", mark = {SESSIONS_MARK}" if state.talk == PERMIT else ""
        rules.append(f'{{action = "{state.talk}", to = "{network(TALKED)}"{mark}}}')
    if "fill" in extra:
        filed += [f"20.{k}.0.0/16 10.0.2.2\n" for k in range(200)]
    (directory / "more.routes").write_text("".join(filed))
    lines.append('route_files = [{file = "more.routes"}]\n')
    lines.append(f"routes = [{', '.join(routes)}]\n")
    udp = 900 if "timeout" in extra else 600
    lines.append(f'firewall = {{default = "deny", sessions = 1023, timeouts = {{udp = {udp}}}}}\n')
    lines.append(f"rules = [{', '.join(rules)}]\n")
    neighbors = [
        f'{{address = "10.0.{k}.2", mac = "02:00:00:00:{mac:02x}:{k:02x}", port = "{name}"}}'
        for k, (name, mac) in enumerate(zip(OUTS, state.macs, strict=True), 2)
    ]
    lines.append(f"neighbors = [{', '.join(neighbors)}]\n")
    return "".join(lines)


def parsed(state, directory, workers=1):
    return config.parse(text(state, directory, workers), str(directory / "reload.toml"))


def drawn(draw, state):
    """Another state: some of it drawn anew."""
    n = draw.randrange(NETWORKS)

    def put(values, value, at=n):
        return (*values[:at], value, *values[at + 1 :])

    for _ in range(draw.choice([1, 2, 3, 8])):
        n = draw.randrange(NETWORKS)
        match draw.randrange(6):
            case 0:
                state = replace(state, out=put(state.out, draw.choice([*OUTS, *OUTS, "none"]), n))
            case 1:
                state = replace(state, mark=put(state.mark, draw.choice([0, 8, 46, DENY]), n))
            case 2:
                at = draw.randrange(3)
                state = replace(state, macs=put(state.macs, draw.randrange(1, 200), at))
            case 3:
                state = replace(state, filed=put(state.filed, not state.filed[n], n))
            case 4:
                state = replace(
                    state, talk_out=draw.choice(OUTS), talk=draw.choice([DENY, DENY, NONE])
                )
            case 5:
                some = [*EXTRAS, "vector", "urpf", "address2", "address3", "fill", "timeout"]
                state = replace(state, extra=state.extra ^ {draw.choice(some)})
    return state


def network(n):
    return f"10.9.{n}.0/24"


def frame(number, n, source_port=None):
    """A packet to a network; the sessions' from one of their ports, if none is given."""
    src, dst = "10.0.1.2", f"10.9.{n}.1"
    if source_port is None:
        source_port = 1000 + number % SESSIONS if n == TALKED else 1000
    udp = pk.udp(src, dst, source_port, 2000, struct.pack(">I", number))
    return pk.eth(LAN_MAC, SOURCE_MAC, 0x0800, pk.ip4(src, dst, 17, udp))


def network_of(number):
    return number * 7 // 3 % (NETWORKS + 1)


@dataclass
class Load:
    """Sends numbered packets from a thread, as fast as there is room, and collects what comes out."""

    router: object
    batch: int = 64
    sent: int = 0
    seen: dict = field(default_factory=dict)
    wrong: list = field(default_factory=list)
    others: list = field(default_factory=list)

    def __post_init__(self):
        self.lan, *self.outs = (self.router.interfaces.find(name).port for name in ("lan", *OUTS))
        self._end, self._paused = threading.Event(), threading.Event()
        self._resting = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._take)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        for thread in self._threads:
            thread.join()

    def pause(self):
        """Send no more; returns when that is so."""
        self._paused.set()
        self._resting.wait()

    def _send(self):
        while not self._end.is_set():
            if self._paused.is_set():
                self._resting.set()
                time.sleep(0.001)
                continue
            # Nothing is to be lost because this program is slow, or a worker has to wait for a CPU.
            while self.lan._inbox.used_slots() > 1000 or any(
                port._outbox.used_slots() > 2000 for port in self.outs
            ):
                time.sleep(0.001)
            frames = [frame(k, network_of(k)) for k in range(self.sent, self.sent + self.batch)]
            while frames and not self._end.is_set():
                done = self.lan.send(frames)
                self.sent += done
                frames = frames[done:]
                time.sleep(0.0005)

    def take(self):
        for name, port in zip(OUTS, self.outs, strict=True):
            for got in port.received():
                if got[12:14] != b"\x08\x00":
                    continue  # an announcement of an address that is new
                number = struct.unpack(">I", got[42:46])[0]
                if number == OTHERS:
                    self.others.append(got)
                    continue
                outcome = name, got[4], got[15] >> 2
                if number in self.seen or got[:4] != b"\2\0\0\0" or got[22] != 63:
                    self.wrong.append((number, got.hex()))
                self.seen[number] = outcome

    def _take(self):
        while not self._end.is_set():
            self.take()
            time.sleep(0.0005)


def explain(epochs, sent, seen):
    """Nothing when each packet met exactly one configuration, in order; else what did not.

    epochs: (state, how many packets had been sent when the next one was in force). A packet that was sent
    when a configuration was in force already met none that came before it.
    """
    at = {0}  # where the epoch that is looked at may have begun
    begin = 0
    for state, end in epochs:
        last = end if end is not None else sent
        first = min(at)
        feasible, reached = set(), first
        for number in range(first, last + 1):
            if number in at:
                reached = number  # the longest run that began somewhere possible
                alive = True
            if alive:
                feasible.add(number)
            if number < last and seen.get(number) != state.outcome(network_of(number)):
                alive = False
                wrong = number
        if not feasible or (end is None and last not in feasible):
            got = seen.get(wrong)
            return (
                f"packet {wrong} (of {sent}, epoch from {begin} to {end}) had {got}, "
                f"and {state} says {state.outcome(network_of(wrong))}; reached {reached}"
            )
        at, begin = feasible, last
    return ""


def started(state, directory, workers=1):
    router = from_config(parsed(state, directory, workers))
    try:
        router.build()
        router.start()
    except BaseException:
        router.close()
        raise
    return router


def seeded(seed):
    return random.Random(seed)
