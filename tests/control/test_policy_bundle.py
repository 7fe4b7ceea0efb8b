# SPDX-License-Identifier: Apache-2.0
"""A bundle lies as tables.policy says; the one in force is never one that is gone."""

import ctypes

import numpy as np

from vforward.control.policy_bundle import LARGE, Parts, Policy, assemble
from vforward.tables import policy


def parts(n=1, **images):
    actions = np.zeros(n, policy.ACTION)
    actions["hits"] = np.arange(n)
    return Parts(actions, np.zeros(2, policy.REWRITE), **images)


def part(bundle, number):
    at, words = int(bundle[2 * number]), int(bundle[2 * number + 1])
    return bundle[at : at + words]


def test_parts_are_where_the_words_say():
    images = {
        name: np.arange(n, dtype=np.uint64) + n
        for name, n in (("filter4", 9), ("filter6", 8), ("source4", 1))
    }
    bundle = assemble(parts(3, flags=policy.USES_OUT, **images))
    assert part(bundle, policy.FILTER4).tolist() == list(range(9, 18))
    assert part(bundle, policy.FILTER6).tolist() == list(range(8, 16))
    assert part(bundle, policy.SOURCE4).tolist() == [1]
    assert part(bundle, policy.DESTINATION4).size == 0
    assert part(bundle, policy.ACTIONS).view(policy.ACTION)["hits"].tolist() == [0, 1, 2]
    assert part(bundle, policy.REWRITES).size == 8
    assert bundle[policy.FLAGS] == policy.USES_OUT


def test_a_large_bundle_begins_on_a_huge_page():
    image = np.arange(LARGE, dtype=np.uint64)
    bundle = assemble(parts(3, filter4=image))
    assert bundle.ctypes.data % (2 << 20) == 0
    assert (part(bundle, policy.FILTER4) == image).all()
    assert part(bundle, policy.ACTIONS).view(policy.ACTION)["hits"].tolist() == [0, 1, 2]


def test_parts_begin_on_cache_lines():
    bundle = assemble(parts(3, filter4=np.ones(9, np.uint64)))
    for number in range(6):
        assert (bundle.ctypes.data + 8 * int(bundle[2 * number])) % 64 == 0


def in_force(made):
    """The words of the bundle at the address that a worker reads."""
    return (ctypes.c_uint64 * made.bundle.size).from_address(int(made.words[0]))


def test_what_is_published_is_in_force():
    made = Policy()
    assert made.words[0] == 0
    assert made.bundle is None
    for n in (1, 5):
        made.put(assemble(parts(n)))
        assert made.settle()
        assert list(in_force(made)) == made.bundle.tolist()
        assert in_force(made)[2 * policy.ACTIONS + 1] == 4 * n


def test_an_old_one_stays_until_a_quiet_point():
    made = Policy()
    asked = []

    def not_yet():
        asked.append(int(made.words[0]))
        return len(asked) > 2

    made.quiesce = not_yet
    for n in (1, 2, 3):
        made.put(assemble(parts(n)))
        assert made.settle() == (n == 3)
        assert asked[-1] == made.bundle.ctypes.data, "asked when the new one is in force"
        assert len(made._kept) == (n if n < 3 else 1)
