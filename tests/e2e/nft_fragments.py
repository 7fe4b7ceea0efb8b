# SPDX-License-Identifier: Apache-2.0
"""Datagrams in pieces, with and without NAT. A step is all pieces of one."""

from __future__ import annotations

from collections.abc import Sequence

from e2e import nft_flows, nft_nat
from e2e.nft_family import Family
from e2e.nft_nat import UDP_SERVER, F, ends, first
from e2e.nft_steps import Packet, Scenario, Seen, Step, joined, step

DATA = bytes(range(256)) * 8


def _plain(f: Family) -> dict[str, Sequence[Step]]:
    """Datagrams in pieces. A step is all pieces of one."""
    a, b = "lan", "wan"
    whole, back = f.udp("a", "b", 3200, 53, DATA), f.udp("b", "a", 53, 3200, DATA)
    wrong = f.udp("b", "a", 53, 3201, DATA)
    one, two, three = f.pieces(whole, 800, 1600, ident=1)
    again = f.pieces(back, 800, 1600, ident=2)
    turned = f.pieces(back, 800, 1600, ident=3)
    small = f.pieces(f.tcp("a", "b", 3201, 80, DATA[:1000]), 8, 504, ident=8)
    over = [
        f.piece(whole, 0, 800, more=True, ident=9),
        f.piece(whole, 792, 1600, more=True, ident=9),
    ]
    twice = f.pieces(back, 800, 1600, ident=10)
    cut = "other" if f.six else "pass"  # Linux cuts anew, with an identification of its own
    return {
        "fragments": [
            step("in order", (a, one), (a, two), (a, three), want=cut),
            step("of the answer", *[(b, p) for p in again], want=cut),
            step("the last one first", *[(b, p) for p in turned[::-1]], want=cut),
            step("of no session", *[(b, p) for p in f.pieces(wrong, 800, 1600, ident=4)], want="drop"),
            step("without the first", *[(b, p) for p in f.pieces(back, 800, ident=5)[1:]],
                 want="drop"),
            step("a port in the second piece", *[(a, p) for p in small],
                 want="drop" if f.six else "other"),
            step("overlapping", *[(a, p) for p in [*over, f.piece(whole, 1600, 2056, more=False,
                 ident=9)]], want="drop"),
            step("one of them twice", *[(b, twice[n]) for n in (0, 1, 1, 2)], want="other"),
        ],
    }  # fmt: skip


def _to_pieces(group: str, label: str, number: int, ident: int) -> Packet:
    """One of three pieces of a long answer."""

    def make(seen: Seen) -> bytes:
        src, dst, sport, dport = ends(first(seen, group, label))
        whole = F.udp(dst, src, dport, sport, DATA)
        return F.pieces(whole, 800, 1600, ident=ident)[number]

    return make


def _translated() -> list[Step]:
    """The same with NAT."""
    g = "fragments"
    pieces = F.pieces(F.udp("a", "b", 3200, 53, DATA), 800, 1600, ident=21)
    turned = F.pieces(F.udp("a", "b", 3200, 53, DATA), 800, 1600, ident=22)
    served = F.pieces(F.udp("b", UDP_SERVER, 3200, 8001, DATA), 800, 1600, ident=23)
    bare = F.pieces(F.udp("a", "b", 3200, 53, DATA, checksum=0), 800, 1600, ident=24)
    return [
        step("one", ("lan", F.udp("a", "b", 3200, 53))),
        step("out", *[("lan", piece) for piece in pieces]),
        step("out, last one first", *[("lan", piece) for piece in turned[::-1]]),
        step("out, without checksum", *[("lan", piece) for piece in bare]),
        step("back", *[("wan", _to_pieces(g, "one", n, 31)) for n in (0, 1, 2)]),
        step("back, last one first", *[("wan", _to_pieces(g, "one", n, 32)) for n in (2, 1, 0)]),
        step("to a server", *[("wan", piece) for piece in served]),
    ]


def scenarios() -> list[Scenario]:
    """With the rules of nft_flows, of either family, and with those of nft_nat."""
    made = [
        Scenario(f"fragments{6 if f.six else 4}", nft_flows.NFT, nft_flows.TOML, joined(_plain(f)))
        for f in (Family(six=False), Family(six=True))
    ]
    steps = joined({"fragments": _translated()})
    return [*made, Scenario("nat-fragments", nft_nat.NFT, nft_nat.TOML, steps, nft_nat.PUBLIC)]
