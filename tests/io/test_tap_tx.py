# SPDX-License-Identifier: Apache-2.0
"""tap-tx: every packet by its flow's queue, in order, and its fate told; the system call is ours."""

from ctypes import CFUNCTYPE, c_int64, string_at

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.io import af_packet_tx, linux, tap_tx
from vforward.layout import VECTOR_MAX
from vforward.testing import packets as pk
from vforward.testing.run_node import run_node

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"
EAGAIN, EIO = 11, 5
FIRST = 100  # the first queue's descriptor


class Sender:
    """A tap-tx of some queues; what is written to each is kept. failing: error by queue."""

    def __init__(self, queues, failing=None):
        self.written = []
        self.failing = failing or {}
        self._function = CFUNCTYPE(c_int64, c_int64, c_int64, c_int64, c_int64)(self._write)
        self._arrays = [
            np.zeros(VECTOR_MAX, linux.MMSGHDR),
            np.zeros(VECTOR_MAX * af_packet_tx.PIECES_EACH, linux.IOVEC),
            np.zeros(VECTOR_MAX, np.uint32),
        ]
        sockets = np.zeros((queues, af_packet_tx.SOCKET_WORDS), np.uint64)
        sockets[:, af_packet_tx.FD] = FIRST + np.arange(queues)
        sockets[:, af_packet_tx.SEND] = np.frombuffer(self._function, np.uint64)[0]
        words = (af_packet_tx.MESSAGES, af_packet_tx.PIECES, af_packet_tx.PLACES)
        for word, array in zip(words, self._arrays, strict=True):
            sockets[:, word] = array.ctypes.data
        self._tables = {
            "sockets": sockets.reshape(-1),
            "work": np.zeros(tap_tx.WORK_WORDS, np.uint64),
        }

    def _write(self, fd, messages, n, _flags):
        if fd - FIRST in self.failing:
            return -self.failing[fd - FIRST]
        heads = np.frombuffer(string_at(messages, n * linux.MMSGHDR.itemsize), linux.MMSGHDR)
        for head in heads["msg_hdr"]:
            size = int(head["msg_iovlen"]) * linux.IOVEC.itemsize
            pieces = np.frombuffer(string_at(int(head["msg_iov"]), size), linux.IOVEC)
            whole = b"".join(string_at(int(p["iov_base"]), int(p["iov_len"])) for p in pieces)
            self.written.append((fd - FIRST, whole[linux.VIRTIO_NET_HDR.itemsize :]))
        return n

    def send(self, frames):
        """Send frames; returns the node's result."""
        return run_node(tap_tx.NODE, frames, tables=self._tables)

    def by_queue(self):
        """The frames that were written, by queue."""
        queues = sorted({queue for queue, _ in self.written})
        return {n: [frame for queue, frame in self.written if queue == n] for n in queues}


def frame4(flow, n=0):
    src = f"10.0.{flow >> 8}.{flow & 255}"
    udp = pk.udp(src, "10.1.0.1", 1000 + flow, 53, n.to_bytes(4))
    return pk.eth(A, B, pk.ETH_IP4, pk.ip4(src, "10.1.0.1", pk.PROTO_UDP, udp))


def frame6(flow, n=0):
    src = f"2001:db8::{flow + 1:x}"
    udp = pk.udp(src, "2001:db8:1::1", 1000 + flow, 53, n.to_bytes(4))
    return pk.eth(A, B, pk.ETH_IP6, pk.ip6(src, "2001:db8:1::1", pk.PROTO_UDP, udp))


def other(flow, n=0):
    return pk.eth(
        f"02:00:00:01:{flow >> 8:02x}:{flow & 255:02x}", B, 0x88B5, n.to_bytes(4) + bytes(40)
    )


@pytest.mark.parametrize("queues", [1, 2, 3, 16])
@given(
    st.lists(
        st.tuples(st.sampled_from([frame4, frame6, other]), st.integers(0, 300)),
        min_size=1,
        max_size=VECTOR_MAX,
    )
)
def test_all_go_once_and_a_flow_by_one_queue_in_order(queues, wanted):
    frames = [make(flow, n) for n, (make, flow) in enumerate(wanted)]
    flows = dict(zip(frames, wanted, strict=True))
    sender = Sender(queues)
    result = sender.send(frames)
    assert set(result.edges) == {"held"}
    assert result.held == []  # all given back
    assert sorted(frame for _, frame in sender.written) == sorted(frames)
    queue_of = {}
    for queue, frame in sender.written:
        make, flow = flows[frame]
        assert queue_of.setdefault((make, flow), queue) == queue
    for sent in sender.by_queue().values():
        assert sent == [frame for frame in frames if frame in set(sent)]
    assert result.counters["bytes"] == sum(map(len, frames))


@pytest.mark.parametrize("make", [frame4, frame6, other])
@pytest.mark.parametrize("queues", [2, 3, 16])
def test_many_flows_use_all_queues_alike(make, queues):
    sender = Sender(queues)
    for start in range(0, 2048, VECTOR_MAX):
        sender.send([make(flow) for flow in range(start, start + VECTOR_MAX)])
    counts = [len(frames) for frames in sender.by_queue().values()]
    assert len(counts) == queues
    fair = 2048 / queues
    assert min(counts) > fair - 5 * fair**0.5  # standard deviations


@pytest.mark.parametrize("length", [14, 33, 34, 53, 54])
@pytest.mark.parametrize("kind", [pk.ETH_IP4, pk.ETH_IP6])
def test_frames_too_short_for_their_header_go_too(length, kind):
    sender = Sender(4)
    frame = pk.eth(A, B, kind, bytes([0x45]) + bytes(60))[:length]
    sender.send([frame])
    assert [sent for _, sent in sender.written] == [frame]


@pytest.mark.parametrize("error", [EAGAIN, EIO])
def test_a_queue_that_takes_nothing_drops_its_own(error):
    frames = [frame4(flow) for flow in range(200)]
    whole = Sender(3)
    whole.send(frames)
    sender = Sender(3, failing={1: error})
    result = sender.send(frames)
    lost = set(whole.by_queue()[1])
    for frame, edge, left in zip(frames, result.edges, result.frames, strict=True):
        assert edge == ("drop" if frame in lost else "held")
        assert left == (frame if frame in lost else None)
    assert {0: whole.by_queue()[0], 2: whole.by_queue()[2]} == sender.by_queue()
    assert result.counters["ring-full" if error == EAGAIN else "link-down"] == len(lost)
