# SPDX-License-Identifier: Apache-2.0
"""Filters of captures, against a plain reading of each frame, and their errors."""

from ipaddress import ip_address, ip_network

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oracles.capture import facts
from vforward.control.capture_filter import HEAD, Heads, compiled
from vforward.errors import ConfigError
from vforward.testing import packets as pk

MAC = "02:00:00:00:00:01"
HOSTS4 = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "8.0.6.6", "255.255.255.255", "0.0.0.0"]
HOSTS6 = ["fe80::1", "2001:db8::1", "2001:db8:1::1", "::", "ffff::ffff"]
PORTS = [0, 53, 80, 443, 65535]


def heads(frames):
    data = np.zeros((len(frames), HEAD), np.uint8)
    for i, frame in enumerate(frames):
        data[i, : min(len(frame), HEAD)] = list(frame[:HEAD])
    return Heads(data, np.array([len(frame) for frame in frames]))


@st.composite
def segments(draw, six):
    ends = (
        draw(st.sampled_from(HOSTS6 if six else HOSTS4)),
        draw(st.sampled_from(HOSTS6 if six else HOSTS4)),
    )
    ports = draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS))
    kind = draw(st.sampled_from(["tcp", "udp", "icmp", "other"]))
    if kind == "tcp":
        return *ends, 6, pk.tcp(*ends, *ports)
    if kind == "udp":
        return *ends, 17, pk.udp(*ends, *ports)
    if kind == "icmp":
        return *ends, 58 if six else 1, bytes(8)
    return *ends, draw(st.sampled_from([0, 47, 132, 255])), draw(st.binary(max_size=20))


@st.composite
def frames(draw):
    what = draw(st.sampled_from(["ip", "ip", "ip6", "ip6", "arp", "noise"]))
    if what == "noise":
        return draw(st.binary(max_size=90))
    if what == "arp":
        body = pk.arp_request(MAC, draw(st.sampled_from(HOSTS4)), draw(st.sampled_from(HOSTS4)))
        kind = pk.ETH_ARP
    elif what == "ip":
        src, dst, proto, payload = draw(segments(False))
        body = bytearray(pk.ip4(src, dst, proto, payload))
        if draw(st.integers(0, 3)) == 0:  # options, a fragment
            body[20:20] = bytes(draw(st.sampled_from([4, 40])))
            body[0] = 0x40 | 5 + (len(body) - 20 - len(payload)) // 4
            body[6:8] = draw(st.sampled_from([b"\x20\x00", b"\x00\x01", b"\x1f\xff"]))
        body, kind = bytes(body), pk.ETH_IP4
    else:
        src, dst, proto, payload = draw(segments(True))
        for _ in range(draw(st.integers(0, 5))):
            one = draw(st.sampled_from([0, 43, 44, 60]))
            words = draw(st.sampled_from([0, 1, 4]))
            middle = bytes([0 if one == 44 else words])
            rest = b"\x00\x01" if draw(st.booleans()) else b"\x00\x08"
            size = 8 if one == 44 else 8 * (words + 1)
            payload = (bytes([proto]) + middle + rest).ljust(size, b"\0") + payload
            proto = one
        body, kind = pk.ip6(src, dst, proto, payload), pk.ETH_IP6
    for vid in draw(st.lists(st.sampled_from([1, 7, 4095]), max_size=3)):
        body, kind = pk.vlan(vid, kind, body), draw(st.sampled_from([pk.ETH_VLAN, pk.ETH_QINQ]))
    frame = pk.eth(MAC, MAC, kind, body)
    return frame[: draw(st.integers(0, len(frame)))] if draw(st.integers(0, 4)) == 0 else frame


def _either(test):
    return {
        "": lambda f: test(f, 0) or test(f, 1),
        "src ": lambda f: test(f, 0),
        "dst ": lambda f: test(f, 1),
    }


@st.composite
def primitives(draw):
    """A text, and what it says of an oracle's facts."""
    kind = draw(st.sampled_from(["host", "net", "port", "proto", "vlan", "size", "word"]))
    end = draw(st.sampled_from(["", "src ", "dst "]))
    if kind in ("host", "net"):
        host = draw(st.sampled_from(HOSTS4 + HOSTS6))
        bits = ip_address(host).max_prefixlen
        length = bits if kind == "host" else draw(st.sampled_from([0, 1, 8, 15, bits - 1, bits]))
        network = ip_network(f"{host}/{length}", strict=False)

        def inside(f, k):
            return f["addresses"] is not None and f["addresses"][k] in network

        return f"{end}{kind} {host if kind == 'host' else network}", _either(inside)[end]
    if kind == "port":
        first = draw(st.sampled_from(PORTS))
        last = draw(st.sampled_from([p for p in PORTS if p >= first]))
        before = draw(st.sampled_from(["", "tcp ", "udp "]))
        number = {"": None, "tcp ": 6, "udp ": 17}[before]

        def through(f, k):
            right = number is None or f["protocol"] == number
            return right and f["ports"] is not None and first <= f["ports"][k] <= last

        return f"{before}{end}port {first}" + (f"-{last}" if last > first else ""), _either(
            through
        )[end]
    if kind == "proto":
        number = draw(st.sampled_from([0, 1, 6, 17, 44, 47, 255]))
        return f"proto {number}", lambda f: f["protocol"] == number
    if kind == "vlan":
        vid = draw(st.sampled_from([None, 1, 7, 4095]))
        text = "vlan" if vid is None else f"vlan {vid}"
        return text, lambda f: bool(f["tags"]) if vid is None else vid in f["tags"]
    if kind == "size":
        n = draw(st.sampled_from([0, 14, 42, 60, 1000]))
        word = draw(st.sampled_from(["less", "greater"]))
        return f"{word} {n}", lambda f: f["size"] <= n if word == "less" else f["size"] >= n
    word = draw(st.sampled_from(["ip", "ip6", "arp", "tcp", "udp", "icmp", "icmp6"]))
    number = {"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58}.get(word)
    family = {"icmp": "ip", "icmp6": "ip6"}.get(word, word if number is None else None)
    return word, lambda f: number in (None, f["protocol"]) and family in (None, f["kind"])


def _compound(children):
    return st.one_of(
        children.map(lambda c: (f"not ({c[0]})", lambda f: not c[1](f))),
        st.tuples(children, children).map(
            lambda p: (f"({p[0][0]}) and ({p[1][0]})", lambda f: p[0][1](f) and p[1][1](f))
        ),
        st.tuples(children, children).map(
            lambda p: (f"({p[0][0]}) or ({p[1][0]})", lambda f: p[0][1](f) or p[1][1](f))
        ),
    )


EXPRESSIONS = st.recursive(primitives(), _compound, max_leaves=6)


@given(st.lists(frames(), min_size=1, max_size=12), EXPRESSIONS)
def test_as_a_plain_reading_says(given_frames, expression):
    text, wanted = expression
    found = compiled(text)(heads(given_frames)).tolist()
    assert found == [wanted(facts(frame)) for frame in given_frames], text


def test_and_binds_closer_than_or():
    tcp = pk.eth(
        MAC,
        MAC,
        pk.ETH_IP4,
        pk.ip4("10.0.0.1", "10.0.0.2", 6, pk.tcp("10.0.0.1", "10.0.0.2", 1, 2)),
    )
    for text, wanted in (
        ("tcp or udp and arp", True),
        ("(tcp or udp) and arp", False),
        ("not udp and tcp", True),
        ("not (udp or tcp)", False),
        ("", True),
        ("  ", True),
        ("tcp port 1", True),
        ("tcp src port 2", False),
        ("tcp dst port 2-9", True),
    ):
        assert compiled(text)(heads([tcp])).tolist() == [wanted], text


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("tcp and", "it ends where one of host, net, port"),
        ("host", "it ends where an address should stand"),
        ("host x", "'x' is not an address"),
        ("net 10.0.0.1/8", "'10.0.0.1/8' is not a prefix"),
        ("port 65536", "is not a port"),
        ("port 9-1", "is not a port"),
        ("port \u0661", "is not a port"),
        ("(tcp", "has no )"),
        ("tcp)", "')' stands where and, or or the end could"),
        ("tcp udp", "'udp' stands where"),
        ("nonsense", "'nonsense' is no word of it"),
        ("prt 80", "'prt' is no word of it here; did you mean \"port\"?; see"),
        ("src tcp", "'tcp' is no word of it here"),
        ("tcp host 10.0.0.1", "'host' stands where"),
        ("proto nothing", "is not a protocol"),
        ("less -1", "is not a number of bytes"),
        ("x" * 1001, "1001 characters; at most 1000"),
        ("(" * 60 + "tcp" + ")" * 60, "more than 50 parentheses"),
        ("not " * 60 + "tcp", "more than 50 parentheses or nots"),
    ],
)
def test_wrong_filters(text, what):
    with pytest.raises(ConfigError, match=r"^filter: ") as caught:
        compiled(text)
    assert what in str(caught.value)


@given(st.text(alphabet="()abchostnepr tdu0123456789./:-", max_size=40))
def test_any_text_is_a_filter_or_an_error_of_ours(text):
    try:
        test = compiled(text)
    except ConfigError:
        return
    assert test(heads([bytes(60)])).shape == (1,)
