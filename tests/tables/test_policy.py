"""The parts of a bundle as kernels see them, and that one store changes all of them."""

import numpy as np

from vforward.jit.intrinsics import view
from vforward.jit.kernel import kernel
from vforward.tables import policy


@kernel
def look(table, hits):
    bundle = policy.in_force(table)
    if bundle == 0:
        return 0, 0, 0, 0, False
    where, n = policy.place(bundle, policy.ACTIONS)
    acts = view(where, n // policy.RECORD_WORDS, policy.ACTION)
    where, n = policy.place(bundle, policy.REWRITES)
    news = view(where, n // policy.RECORD_WORDS, policy.REWRITE)
    policy.count_hit(hits, acts[1].hits, 60)
    sizes = 0
    for part in range(4):
        sizes = sizes * 10 + policy.place(bundle, part)[1]
    return sizes, acts.size, acts[1].treatment, news[news.size - 1].address, policy.uses_out(bundle)


def bundle(treatment):
    words = np.zeros(policy.HEAD + 3 + 2 * 4 + 3 * 4, np.uint64)
    places = ((16, 1), (17, 0), (17, 2), (19, 0), (19, 8), (27, 12))
    words[:12] = np.array(places).reshape(-1)
    words[policy.FLAGS] = policy.USES_OUT
    words[19:27].view(policy.ACTION)["treatment"] = 1, treatment
    words[19:27].view(policy.ACTION)["hits"] = 0, 7
    words[27:].view(policy.REWRITE)["address"] = 1, 2, 3
    return words


def test_parts_and_the_change_of_all():
    table, hits = np.zeros(policy.POLICY_WORDS, np.uint64), np.zeros(16, np.uint64)
    assert look(table, hits) == (0, 0, 0, 0, False)
    first, second = bundle(5), bundle(6)
    table[0] = first.ctypes.data
    assert look(table, hits) == (1020, 2, 5, 3, True)
    table[0] = second.ctypes.data
    assert look(table, hits) == (1020, 2, 6, 3, True)
    assert hits[14:].tolist() == [2, 120]
