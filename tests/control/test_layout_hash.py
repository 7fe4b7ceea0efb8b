# SPDX-License-Identifier: Apache-2.0
"""The hash is of the layout: the same in each process, another when any fact is."""

import subprocess
import sys

from vforward.control import layout_hash as module
from vforward.control.layout_hash import facts, layout_hash


def test_it_is_the_same_in_each_process():
    code = "from vforward.control.layout_hash import layout_hash; print(layout_hash())"
    said = {int(subprocess.check_output([sys.executable, "-c", code])) for _ in range(2)}
    assert said == {layout_hash()}
    assert 0 < layout_hash() < 1 << 64


def test_each_fact_counts(monkeypatch):
    whole, hashes = facts(), {layout_hash()}
    for at in range(len(whole)):
        changed = [*whole[:at], "another", *whole[at + 1 :]]
        monkeypatch.setattr(module, "facts", lambda changed=changed: changed)
        hashes.add(layout_hash())
    assert len(hashes) == len(whole) + 1
