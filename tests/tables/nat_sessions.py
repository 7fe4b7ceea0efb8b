"""Sessions for the tests of NAT: made by hand, word by word, in a table of their own."""

import numpy as np

from vforward.jit.kernel import kernel
from vforward.tables import session
from vforward.tables.session_index import enter

SEED = bytes(range(1, 49))
SYN_SENT, ESTABLISHED = session.SYN_SENT, session.ESTABLISHED


def table(capacity=1000):
    """The array of a shard without sessions."""
    array = np.zeros(session.words_for(capacity), np.uint64)
    session.prepare(array, capacity, SEED)
    return array


def endpoint(end):
    """An (address, port) as kernels have it."""
    return end[0] << 16 | end[1]


def key(src, dst, protocol, zone):
    """The key of packets from src to dst: zone, protocol and ports; addresses."""
    return zone << 56 | protocol << 48 | src[1] << 16 | dst[1], src[0] << 32 | dst[0]


@kernel
def _enter(sessions, number):
    return enter(session.shard(sessions), number)


def put(array, src, dst, protocol, *, translated=None, zone=0, **fields):
    """Add a session from src to dst, (address, port) each. Returns its number.

    translated: its packets' endpoints behind NAT, (source, destination).
    """
    parts = session.arrays(array)
    number = int(array[session.UNUSED])
    array[session.UNUSED] += np.uint64(1)
    record = parts.hot[number : number + 1]
    source, destination = translated or (src, dst)
    record["k0"], record["k1"] = key(src, dst, protocol, zone)
    record["k2"], record["k3"] = key(destination, source, protocol, zone)
    record["flags"] = session.NAT * (translated is not None)
    record["protocol"], record["zone"] = protocol, zone
    for name, value in fields.items():
        record[name] = value
    assert _enter(array, number)
    return number


def put6(array, src, dst, protocol, *, zone=0, **fields):
    """The same of IPv6: (16 bytes, port) each."""
    parts = session.arrays(array)
    number = int(array[session.UNUSED])
    array[session.UNUSED] += np.uint64(1)
    record = parts.hot[number : number + 1]
    record["k0"], record["k1"] = (int.from_bytes(src[0][i : i + 8], "big") for i in (0, 8))
    record["k2"], record["k3"] = (int.from_bytes(dst[0][i : i + 8], "big") for i in (0, 8))
    record["ports"] = src[1] << 16 | dst[1]
    record["flags"] = session.SIX
    record["protocol"], record["zone"] = protocol, zone
    for name, value in fields.items():
        record[name] = value
    assert _enter(array, number)
    return number
