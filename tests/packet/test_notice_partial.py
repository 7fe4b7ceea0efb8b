"""notice: what a stack leaves to be completed is noticed, and a whole packet is never changed by it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oracles import checksum as sums
from oracles import partial as oracle
from vforward.jit.kernel import i64, kernel
from vforward.layout import BUF_STRIDE, CSUM_PARTIAL, HEADROOM, META, NIL
from vforward.packet.checksum import complete
from vforward.packet.notice_partial import notice
from vforward.testing import packets

TCP, UDP, SCTP = 6, 17, 132
FIELD = {TCP: (16, 2), UDP: (6, 2)}
ENDS = {4: ("10.0.0.1", "203.0.113.9"), 6: ("2001:db8::1", "2001:db8:ffff::2")}


@kernel
def call(data, meta):
    return notice(data, meta, i64(0))


@kernel
def call_complete(data, meta):
    return complete(data, meta, i64(0))


class Buffers:
    """A received frame; what does not fit the first buffer is said to be in others."""

    def __init__(self, frame, rest=0):
        self.data = np.full((1, BUF_STRIDE), 0xA5, np.uint8)
        self.meta = np.zeros(1, META)
        self.meta["off"], self.meta["end"] = HEADROOM, HEADROOM + len(frame)
        self.meta["next"], self.meta["rest"] = NIL, rest
        self.data[0, HEADROOM : HEADROOM + len(frame)] = np.frombuffer(frame, np.uint8)

    def notice(self):
        """(csum_start, csum_offset) from the frame's start, or None."""
        noticed = call(self.data, self.meta)
        assert noticed == bool(self.meta["flags"][0] & CSUM_PARTIAL)
        if not noticed:
            return None
        return int(self.meta["csum_start"][0]) - HEADROOM, int(self.meta["csum_off"][0])

    def frame(self):
        return self.data[0, HEADROOM : int(self.meta["end"][0])].tobytes()


def pseudo(family, protocol, length):
    ends = b"".join(
        packets.ip4_bytes(end) if family == 4 else packets.ip6_bytes(end) for end in ENDS[family]
    )
    return ends + length.to_bytes(4, "big") + protocol.to_bytes(4, "big")


def message_of(family, protocol, payload):
    """With its checksum left to be completed."""
    head = b"\1\2\3\4" + (bytes(8) + b"\x50\x18" + bytes(6) if protocol == TCP else bytes(4))
    message = bytearray(head + payload)
    if protocol == UDP:
        message[4:6] = len(message).to_bytes(2, "big")
    field, _ = FIELD[protocol]
    wanted = sums.ones_sum(pseudo(family, protocol, len(message)))
    message[field : field + 2] = wanted.to_bytes(2, "big")
    return bytes(message)


def frame_of(family, protocol, message, tags=0, options=b""):
    kind = packets.ETH_IP4 if family == 4 else packets.ETH_IP6
    src, dst = ENDS[family]
    packet = (
        packets.ip4(src, dst, protocol, message, options=options)
        if family == 4
        else packets.ip6(src, dst, protocol, message)
    )
    tag = b"\x88\xa8\x00\x07\x81\x00\x00\x09"[8 - 4 * tags :]
    return bytes(12) + tag + kind.to_bytes(2, "big") + packet


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("protocol", FIELD)
@pytest.mark.parametrize("tags", [0, 1, 2])
@pytest.mark.parametrize("options", [0, 4, 40])
@pytest.mark.parametrize("length", [0, 1, 2, 1400])
def test_what_a_stack_leaves_is_noticed(family, protocol, tags, options, length):
    message = message_of(family, protocol, bytes(n * 7 & 255 for n in range(length)))
    frame = frame_of(family, protocol, message, tags, bytes(options))
    buffers = Buffers(frame)
    at = len(frame) - len(message)
    assert buffers.notice() == oracle.left(frame) == (at, FIELD[protocol][0])
    assert call_complete(buffers.data, buffers.meta)
    done = buffers.frame()[at:]
    assert sums.verifies(pseudo(family, protocol, len(done)) + done)


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([4, 6]), st.sampled_from([TCP, UDP]), st.binary(max_size=80), st.booleans())
def test_a_whole_packet_stays_as_it_is(family, protocol, payload, by_chance):
    """Also one whose checksum is by chance the pseudo-header's sum: its payload is made so."""
    message = bytearray(message_of(family, protocol, payload + bytes(2)))
    field, _ = FIELD[protocol]
    wanted = int.from_bytes(message[field : field + 2], "big")
    if by_chance:
        # ~(pseudo + rest) = pseudo, so rest = ~pseudo - pseudo: the last word of rest makes that so.
        message[field : field + 2] = bytes(2)
        odd = len(message) % 2
        place = len(message) - 2 - odd
        message[place : place + 2] = bytes(2)
        rest = sums.ones_sum(bytes(message))
        missing = (2 * (wanted ^ 0xFFFF) + (rest ^ 0xFFFF)) % 0xFFFF
        message[place : place + 2] = missing.to_bytes(2, "big")
    message[field : field + 2] = bytes(2)
    whole = pseudo(family, protocol, len(message)) + bytes(message)
    check = sums.internet(whole)
    message[field : field + 2] = (check or (0xFFFF if protocol == UDP else 0)).to_bytes(2, "big")
    frame = frame_of(family, protocol, bytes(message))
    buffers = Buffers(frame)
    found = buffers.notice()
    assert found == oracle.left(frame)
    if by_chance:
        assert found is not None
    assert call_complete(buffers.data, buffers.meta)
    assert buffers.frame() == frame


@st.composite
def frames(draw):
    """Frames near to those that are noticed: one word is another, or bytes are missing or too many."""
    family, protocol = draw(st.sampled_from([4, 6])), draw(st.sampled_from(list(FIELD)))
    message = message_of(family, protocol, draw(st.binary(max_size=40)))
    frame = bytearray(
        frame_of(
            family, protocol, message, draw(st.integers(0, 2)), bytes(4 * draw(st.integers(0, 3)))
        )
    )
    kind = draw(st.sampled_from(["word", "cut", "more", "none"]))
    if kind == "word":
        at = draw(st.integers(12, min(len(frame) - 2, 80)))
        word = st.sampled_from([0, 1, 0x0800, 0x86DD, 0x8100, 0x2000, 0x4000, 0x45, 0xFFFF])
        frame[at : at + 2] = draw(word | st.integers(0, 0xFFFF)).to_bytes(2, "big")
    elif kind == "cut":
        del frame[draw(st.integers(14, len(frame))) :]
    elif kind == "more":
        frame += draw(st.binary(min_size=1, max_size=20))
    return bytes(frame)


@settings(max_examples=1000, deadline=None)
@given(frames())
def test_as_the_oracle(frame):
    buffers = Buffers(frame)
    assert buffers.notice() == oracle.left(frame)
    assert buffers.frame() == frame


def test_a_packet_of_several_buffers():
    """Headers are in the first; the length counts all."""
    message = message_of(4, UDP, bytes(2900))
    frame = frame_of(4, UDP, message)
    assert Buffers(frame[:1974], rest=len(frame) - 1974).notice() == (34, 6)
    assert Buffers(frame[:1974], rest=len(frame) - 1975).notice() is None


def test_sctp_is_not_touched():
    """Its CRC may be left to come, or be left out for good (RFC 9653)."""
    frame = frame_of(4, SCTP, b"\1\2\3\4" + b"\5" * 4 + bytes(4) + bytes(40))
    assert Buffers(frame).notice() is None


def test_fragments_are_complete():
    for fragment in (0x2000, 0x0001, 0x2010):
        frame = bytearray(frame_of(4, UDP, message_of(4, UDP, bytes(64))))
        frame[20:22] = fragment.to_bytes(2, "big")
        assert Buffers(bytes(frame)).notice() is None
    frame[20:22] = (0x4000).to_bytes(2, "big")  # DF is none
    assert Buffers(bytes(frame)).notice() == (34, 6)
