"""The layout against C: sizes, places and numbers as a program of netmap's sees them."""

import itertools
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from vforward.errors import PortError
from vforward.rings import netmap_layout as layout

CSRC = Path(__file__).resolve().parents[2] / "csrc"

PROGRAM = """
#include <stdio.h>
#include "netmap_abi.h"
int main(void) {
%s
    return 0;
}
"""


def c_says(tmp_path, lines):
    source, program = tmp_path / "p.c", tmp_path / "p"
    source.write_text(PROGRAM % "\n".join(lines))
    subprocess.run(["cc", f"-I{CSRC}", "-o", program, source], check=True)
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
@pytest.mark.parametrize(
    ("struct", "dtype"),
    [("netmap_slot", layout.SLOT), ("netmap_ring", layout.RING), ("netmap_if", layout.IF)],
)
def test_structs_are_as_in_c(tmp_path, struct, dtype):
    lines = [
        f'    printf("{name} %zu\\n", offsetof(struct {struct}, {name}));' for name in dtype.names
    ]
    told = dict(line.split() for line in c_says(tmp_path, lines).splitlines())
    assert told == {name: str(dtype.fields[name][1]) for name in dtype.names}


def test_the_places_of_netmaps_own_headers():
    """What programs were compiled with, from netmap's documentation: not from our C header."""
    ring = {name: layout.RING.fields[name][1] for name in layout.RING.names}
    assert (layout.RING.itemsize, layout.SLOT.itemsize) == (256, 16)
    assert ring | {
        "buf_ofs": 0, "num_slots": 8, "nr_buf_size": 12, "ringid": 16, "dir": 18, "head": 20,
        "cur": 24, "tail": 28, "flags": 32, "ts_sec": 40, "ts_usec": 48, "offset_mask": 56,
        "buf_align": 64, "sem": 128,
    } == ring  # fmt: skip
    slot = {name: layout.SLOT.fields[name][1] for name in layout.SLOT.names}
    assert slot == {"buf_idx": 0, "len": 4, "flags": 6, "ptr": 8}
    nifp = {name: layout.IF.fields[name][1] for name in layout.IF.names}
    assert nifp == {
        "ni_name": 0, "ni_version": 16, "ni_flags": 20, "ni_tx_rings": 24, "ni_rx_rings": 28,
        "ni_bufs_head": 32, "ni_host_tx_rings": 36, "ni_host_rx_rings": 40, "ni_spare1": 44,
        "ring_ofs": 56,
    }  # fmt: skip


def test_the_numbers_of_netmaps_own_headers():
    for name, number in {
        "NS_BUF_CHANGED": 1, "NS_REPORT": 2, "NS_FORWARD": 4, "NS_NO_LEARN": 8, "NS_INDIRECT": 16,
        "NS_MOREFRAG": 32, "NR_TIMESTAMP": 2, "NI_PRIV_MEM": 1, "MAX_FRAGS": 64,
    }.items():  # fmt: skip
        assert getattr(layout, name) == number, name


def test_flags_are_the_same_in_c():
    text = (CSRC / "netmap_abi.h").read_text()
    for name in ("NS_BUF_CHANGED", "NS_MOREFRAG", "NR_TIMESTAMP"):
        found = re.search(rf"#define {name} (\w+)", text)
        assert int(found[1], 0) == getattr(layout, name)


@pytest.mark.parametrize("slots", [((2, 2),), ((1024, 512), (512, 1024)), ((7, 9), (9, 7))])
def test_nothing_overlaps(slots):
    where = layout.geometry(slots, 10)
    used = [(0, layout.PAGE)]
    for rings, (tx, rx) in zip(where.ends, slots, strict=True):
        used += [
            (rings.nifp, layout.IF.itemsize),
            (rings.tx, 256 + 16 * tx),
            (rings.rx, 256 + 16 * rx),
        ]
    used.append((where.bufs_at, where.bufs * layout.BUF_SIZE))
    used.sort()
    for (at, size), (following, _) in itertools.pairwise(used):
        assert at + size <= following
    assert sum(used[-1]) <= where.size
    assert where.bufs == 12


def test_an_end_is_found_as_programs_find_it():
    where = layout.geometry(((8, 4),), 12)
    memory = np.zeros(where.size, np.uint8)
    layout.format_end(memory, where, 0, "vale0:abcdefghijklmnop")
    nifp = layout.if_at(memory, where.ends[0].nifp)
    assert nifp["ni_name"] == b"vale0:abcdefghi"
    assert (nifp["ni_version"], nifp["ni_flags"], nifp["ni_bufs_head"]) == (15, 1, 0)
    places = nifp["ring_ofs"].tolist()
    host = int(nifp["ni_tx_rings"] + nifp["ni_host_tx_rings"])
    for kind, place, n, tail in ((0, places[0], 8, 7), (1, places[host], 4, 0)):
        at = where.ends[0].nifp + place
        ring = layout.ring_at(memory, at)
        assert (ring["dir"], ring["num_slots"], ring["head"], ring["tail"]) == (kind, n, 0, tail)
        assert at + ring["buf_ofs"] == where.bufs_at
    assert places[1] == places[3] == 0


def test_extra_buffers_are_a_list():
    where = layout.geometry(((2, 2),), 9)
    memory = np.zeros(where.size, np.uint8)
    for bufs in ([], [4], [7, 2, 9]):
        layout.give_extra(memory, where, 0, bufs)
        assert layout.extra_list(memory, where, 0) == bufs


@pytest.mark.parametrize("following", [0, 1, 4, 11, 2**32 - 1])
def test_a_list_that_makes_no_sense_ends(following):
    where = layout.geometry(((2, 2),), 9)
    memory = np.zeros(where.size, np.uint8)
    layout.give_extra(memory, where, 0, [4, 5])
    memory[where.bufs_at + 5 * 2048 :].view(np.uint32)[0] = following
    assert layout.extra_list(memory, where, 0) == [4, 5]


@pytest.mark.parametrize(("asked", "n"), [(0, 1024), (2, 2), (16384, 16384)])
def test_slots(asked, n):
    assert layout.bounded_slots(asked, "x") == n


@pytest.mark.parametrize("asked", [1, 16385, 2**31])
def test_too_few_and_too_many_slots(asked):
    with pytest.raises(PortError, match="2 to 16384"):
        layout.bounded_slots(asked, "x")
