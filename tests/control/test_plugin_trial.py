"""What is tried of a plug-in's kernel, with kernels that break each rule."""

import numpy as np
import pytest

import plugin_files
from oracles import ip4
from vforward.control.plugin_source import load
from vforward.control.plugin_trial import Guarded, Trial, begin_some, packets, standard
from vforward.errors import KernelError

UDP = packets(4)[0]


def trial(tmp_path, body="pass", **options):
    return Trial(load(plugin_files.write(tmp_path / "probe.py", body, **options)).plugin)


def test_packets_are_valid_ones():
    assert len(packets(4)) == 120
    assert len(packets(6)) == 60
    for packet in packets(4):
        assert ip4.check(packet) is None or ip4.ttl(packet) == 0
    assert {len(packet) for packet in packets(6)} >= {40, 41, 9040}


def test_a_good_one(tmp_path):
    tried = trial(tmp_path)
    result = tried([UDP] * 3)
    assert result.edges[0] == "arc-end"  # none of the features that follow is on
    assert int(tried.tables["seen"][0]) == 3
    tried([UDP])
    assert int(tried.tables["seen"][0]) == 4  # they stay from call to call
    standard(tried)


def test_tables_begin_as_its_fill_leaves_them(tmp_path):
    tried = trial(
        tmp_path, before="def fill(tables):\n    tables['seen'][:] = 7", options="fill=fill"
    )
    assert tried.tables["seen"].tolist() == [7] * 4
    tried([UDP], tables={"seen": np.zeros(4, np.uint64)})
    assert tried.tables["seen"].tolist() == [7] * 4


MORE = {"tables": ", more: U64", "more": ', "more": Table(4, np.uint64)', "options": "fill=fill"}


def test_its_fill_is_tried_as_when_others_stay(tmp_path):
    """Where a plug-in is replaced only some of its tables may begin anew."""
    fill = "asked = []\ndef fill(tables):\n    asked.append(sorted(tables))\n"
    good = fill + "    for name in {'seen', 'more'} & {*tables}:\n        tables[name][:] = 7"
    tried = trial(tmp_path, before=good, **MORE)
    asked = tried.plugin.fill.__globals__["asked"]
    assert asked == [["more", "seen"]]
    begin_some(tried.plugin)
    assert asked[1:] == [["seen"], ["more"]]
    for missing, given in (("more", "seen"), ("seen", "more")):
        bad = trial(tmp_path, before=f"{fill}    tables['{missing}'][:] = 7", **MORE)
        with pytest.raises(KernelError, match=rf"\({given}\): line [0-9]+: KeyError: '{missing}'"):
            begin_some(bad.plugin)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("edge[i] = 7", "edge 7 is none of the node's"),
        ("edge[i] = 192 + 9", "left by arc-9: a feature that its port has not on"),
        ("edge[i] = EDGE_HELD", "it says EDGE_HELD, and has no table pool"),
        ("idx[i] = 0", "passed on|lost|twice"),
        ("meta[row].end = 5000", "do not fit"),
        ("data[(row + 1) % data.shape[0], 5] = 0", "it writes to buffers that it was not given"),
    ],
)
def test_what_is_refused(tmp_path, body, words):
    tried = trial(tmp_path, body)
    with pytest.raises(AssertionError, match=words):
        standard(tried)


def test_a_table_that_is_written_beyond(tmp_path):
    """Without bounds checked: the bytes around it tell."""
    tried = trial(tmp_path, "seen[seen.size + i % 2] = u64(1)")
    with pytest.raises(
        (AssertionError, IndexError), match=r"beyond its table 'seen'|out of bounds"
    ):
        standard(tried)


def test_guards():
    guarded = Guarded()
    array = guarded.copy("t", np.arange(10, dtype=np.uint32))
    assert array.tolist() == list(range(10))
    guarded.check()
    whole = array.base
    while whole.base is not None:
        whole = whole.base
    whole[0] = 0
    with pytest.raises(AssertionError, match="beyond its table 't'"):
        guarded.check()


def test_frames_and_what_the_router_makes_itself(tmp_path):
    tried = trial(tmp_path)
    framed = tried([UDP])
    assert framed.frames[0][14:] == UDP
    assert int(framed.meta[0]["l3"]) - int(framed.meta[0]["off"]) == 14
    bare = tried([UDP], framed=False)
    assert bare.frames[0] == UDP
    assert int(bare.meta[0]["l3"]) == int(bare.meta[0]["off"])


def test_it_is_compiled_without_a_packet(tmp_path):
    tried = trial(tmp_path, "while True: seen[0] += u64(1)")
    tried.compile()
    assert tried.tables["seen"][0] == 0
