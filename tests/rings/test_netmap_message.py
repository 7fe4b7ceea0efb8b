"""Requests and replies: there and back, what is refused, and that C has the same."""

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.errors import PortError
from vforward.rings.netmap_message import INFO, REGISTER, REPLY_SIZE, REQUEST_SIZE, Reply, Request

HEADER = Path(__file__).resolve().parents[2] / "csrc" / "netmap_message.h"
u32 = st.sampled_from([0, 1, 2**31, 2**32 - 1])
u64 = st.sampled_from([0, 1, 2**63, 2**64 - 1])


@given(
    st.builds(
        Request,
        st.sampled_from([REGISTER, INFO]),
        st.sampled_from(["", "x{1", "vale0:" + "a" * 57]),
        u32, u32, u32,
    )
)  # fmt: skip
def test_requests(request):
    assert Request.unpacked(request.packed()) == request


@given(st.builds(Reply, st.sampled_from([0, 22, -1]), u32, *[u64] * 8, *[u32] * 6))
def test_replies(reply):
    assert Reply.unpacked(reply.packed()) == reply


@given(st.binary(max_size=2 * REQUEST_SIZE))
def test_anything_else_is_refused(data):
    with pytest.raises(PortError):
        Request.unpacked(data)


@pytest.mark.parametrize("at", [0, 4, 8])
def test_every_word_of_the_beginning_counts(at):
    data = bytearray(Request(REGISTER, "x{1").packed())
    data[at] ^= 0x40
    with pytest.raises(PortError, match="not known"):
        Request.unpacked(bytes(data))


def test_long_names_and_short_replies():
    with pytest.raises(PortError, match="63"):
        Request(REGISTER, "a" * 64).packed()
    with pytest.raises(PortError, match="96"):
        Reply.unpacked(bytes(95))


def test_c_has_the_same():
    text = HEADER.read_text()
    body = re.search(r"struct vf_reply \{(.*?)\};", text, re.DOTALL)[1]
    assert re.findall(r"(\w+);", body) == [field.name for field in fields(Reply)]
    assert f"sizeof(struct vf_request) == {REQUEST_SIZE}" in text
    assert f"sizeof(struct vf_reply) == {REPLY_SIZE}" in text
