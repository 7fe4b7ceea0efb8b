# SPDX-License-Identifier: Apache-2.0
"""The words of rules: what is read, what is refused and with which words, what is written."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network, summarize_address_range
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vforward.control import flow_words as words
from vforward.control.flow_words import Flags, IcmpKind, Range, SetName, Span

TEN = 10 << 24
NO_ADDRESS = "is not an address, a prefix or a range of addresses"


@pytest.mark.parametrize(
    ("given", "wanted", "text"),
    [
        ("10.0.0.1", Range(4, TEN + 1, TEN + 1), "10.0.0.1"),
        ("10.0.0.0/8", Range(4, TEN, TEN + 0xFFFFFF), "10.0.0.0/8"),
        ("10.0.0.0-10.0.0.255", Range(4, TEN, TEN + 255), "10.0.0.0/24"),
        ("10.0.0.1-10.0.0.2", Range(4, TEN + 1, TEN + 2), "10.0.0.1-10.0.0.2"),
        ("0.0.0.0/0", Range(4, 0, 0xFFFFFFFF), "0.0.0.0/0"),
        ("::/0", Range(6, 0, (1 << 128) - 1), "::/0"),
        ("2001:db8::1", Range(6, (0x20010DB8 << 96) + 1, (0x20010DB8 << 96) + 1), "2001:db8::1"),
        (IPv4Address("10.0.0.1"), Range(4, TEN + 1, TEN + 1), "10.0.0.1"),
        (IPv6Network("::/127"), Range(6, 0, 1), "::/127"),
        (Range(4, 1, 2), Range(4, 1, 2), "0.0.0.1-0.0.0.2"),
        ("@servers", SetName("servers"), "@servers"),
    ],
)
def test_addresses(given, wanted, text):
    found = words.addresses(given)
    assert found == wanted
    assert type(found) is type(wanted)
    assert str(found) == text


@pytest.mark.parametrize(
    ("given", "says"),
    [
        *((text, NO_ADDRESS) for text in ("", "x", "10.0.0", "10.0.0.0/33", "::1/129", "1-2-3")),
        *((text, NO_ADDRESS) for text in ("10.0.0.1-", "10.0.0.1-::1", "10.0.0.1%a", "1::2::3")),
        *(
            (text, NO_ADDRESS)
            for text in ("10.0.0.1/", "/8", "١.0.0.1", "10.0.0.1-10.0.0.2-10.0.0.3")
        ),
        ("10.0.0.1/8", 'has host bits that are not zero; did you mean "10.0.0.0/8"?'),
        ("10.0.0.2-10.0.0.1", "is an empty range: it ends before it begins"),
        (10, "has the wrong type"),
        (None, "has the wrong type"),
        (["10.0.0.1"], "has the wrong type"),
    ],
)
def test_what_is_no_address(given, says):
    with pytest.raises(ValueError) as caught:
        words.addresses(given)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("parse", "given", "wanted", "text"),
    [
        (words.ports, 80, Span(80, 80), "80"),
        (words.ports, "0-65535", Span(0, 65535), "0-65535"),
        (words.ports, "@web", SetName("web"), "@web"),
        (words.ports, Span(1, 2), Span(1, 2), "1-2"),
        (words.protocol, "tcp", 6, "6"),
        (words.protocol, 255, 255, "255"),
        (words.dscp, "af41", 34, "34"),
        (words.dscp, "cs7", 56, "56"),
        (words.dscp, "af13", 14, "14"),
        (words.dscp, 0, 0, "0"),
        (words.tcp_flags, "syn,!ack", Flags(0x12, 2), "syn,!ack"),
        (words.tcp_flags, "!cwr, ece", Flags(0xC0, 0x40), "ece,!cwr"),
        (words.tcp_flags, Flags(2, 2), Flags(2, 2), "syn"),
        (words.icmp, "echo-request", IcmpKind("echo-request"), "echo-request"),
        (words.icmp, 3, IcmpKind(3), "3"),
        (words.icmp, "unreachable/4", IcmpKind("unreachable", 4), "unreachable/4"),
        (words.icmp, "3/0", IcmpKind(3, 0), "3/0"),
        (words.icmp, IcmpKind(1), IcmpKind(1), "1"),
    ],
)
def test_other_words(parse, given, wanted, text):
    assert parse(given) == wanted
    assert str(parse(given)) == text


@pytest.mark.parametrize(
    ("parse", "given", "says"),
    [
        *((words.ports, x, "is not a port or a range of ports") for x in (-1, 65536, "", "1-2-3")),
        *((words.ports, x, "is not a port or a range of ports") for x in (1 << 70, "http", "1-")),
        (words.ports, "2-1", "is an empty range: it ends before it begins"),
        *((words.ports, x, "has the wrong type") for x in (True, 1.5, None, [])),
        (words.protocol, "tpc", 'is not a protocol; did you mean "tcp"?'),
        (words.protocol, 256, "is not a protocol"),
        (words.protocol, True, "has the wrong type"),
        (words.dscp, "af44", 'is not a DSCP; did you mean "af43"?'),
        (words.dscp, 64, "is not a DSCP"),
        (words.tcp_flags, "", "has a flag that does not exist"),
        (words.tcp_flags, "syn,akc", 'has a flag that does not exist; did you mean "ack"?'),
        (words.tcp_flags, "syn,!syn", "has syn twice"),
        (words.tcp_flags, 2, "has the wrong type"),
        (words.icmp, "echo-reqest", 'is not an ICMP type; did you mean "echo-request"?'),
        (words.icmp, 256, "is not an ICMP type"),
        (words.icmp, "3/", "has a code that is not a number from 0 to 255"),
        (words.icmp, "3/256", "has a code that is not a number from 0 to 255"),
        (words.icmp, {}, "has the wrong type"),
    ],
)
def test_other_words_that_are_wrong(parse, given, says):
    with pytest.raises(ValueError) as caught:
        parse(given)
    assert str(caught.value).startswith(says)


def test_icmp_as_ports():
    assert words.icmp_span(IcmpKind("echo-request"), words.ICMP) == Span(0x800, 0x8FF)
    assert words.icmp_span(IcmpKind("echo-request", 0), words.ICMP6) == Span(0x8000, 0x8000)
    assert words.icmp_span(IcmpKind("packet-too-big"), words.ICMP) is None


def test_one_for_many():
    assert words.many("10.0.0.1", words.addresses) == words.many(["10.0.0.1"], words.addresses)
    assert words.many(Span(1, 2), words.ports) == (Span(1, 2),)
    assert words.many((), words.ports) == ()


def test_names():
    assert words.name_of(6, words.PROTOCOLS) == "tcp"
    assert words.name_of(200, words.PROTOCOLS) == 200


EDGES = st.sampled_from([0, 1, 2, 127, 128, 255, 256, 1 << 31, (1 << 32) - 2, (1 << 32) - 1])


@given(EDGES, EDGES)
def test_prefixes_are_those_of_the_standard_library(one, other):
    first, last = sorted((one, other))
    wanted = summarize_address_range(IPv4Address(first), IPv4Address(last))
    assert list(words.prefixes(first, last, 32)) == [
        (int(n.network_address), int(n.netmask)) for n in wanted
    ]


def test_prefixes_of_everything():
    assert list(words.prefixes(0, (1 << 128) - 1, 128)) == [(0, 0)]
    assert list(words.prefixes(*_ends(IPv4Network("10.0.0.0/9")), 32)) == [(TEN, 0xFF800000)]


def _ends(network):
    return int(network.network_address), int(network.broadcast_address)


SPANS = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda t: tuple(sorted(t))))


@given(SPANS)
def test_merged_has_the_same_numbers_and_gaps_between(spans):
    found = list(words.merged(spans))
    assert _numbers(found) == _numbers(spans)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(found))


def _numbers(spans):
    return {n for first, last in spans for n in range(first, last + 1)}
