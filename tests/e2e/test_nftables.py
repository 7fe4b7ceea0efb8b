# SPDX-License-Identifier: Apache-2.0
"""A second judge: nftables with connection tracking is given the same packets, in the same order.

nft_steps says where they go, nft_tcp, nft_flows, nft_nat, nft_matrix what they are, nft_fragments how
they are cut, nft_differences in what the two differ, and why.
"""

import functools

import pytest

from e2e import nft_flows, nft_fragments, nft_matrix, nft_nat, nft_tcp
from e2e.nft_differences import faults
from e2e.nft_linux import linux_router
from e2e.nft_ours import our_router
from e2e.nft_steps import verdict

pytestmark = pytest.mark.root

WRITTEN = {
    made.name: made
    for made in (
        nft_tcp.scenario(six=False),
        nft_tcp.scenario(six=True),
        nft_flows.scenario(six=False),
        nft_flows.scenario(six=True),
    )
}
SEEN = {
    made.name: made
    for made in (
        nft_nat.scenario(),
        *[nft_matrix.scenario(seed, six=six) for six in (False, True) for seed in range(3)],
    )
}
CUT = {made.name: made for made in nft_fragments.scenarios()}
SCENARIOS = WRITTEN | SEEN | CUT


@functools.cache
def judged(name):
    """What Linux makes of a scenario."""
    with linux_router(SCENARIOS[name].nft) as router:
        return router.run(SCENARIOS[name])


@pytest.mark.parametrize("name", [*WRITTEN, "fragments4", "fragments6"])
def test_linux_does_what_is_written(name):
    found = [verdict(sent, out) for sent, out in judged(name)]
    steps = SCENARIOS[name].steps
    wrong = [
        (s.label, s.want, word) for s, word in zip(steps, found, strict=True) if s.want != word
    ]
    assert not wrong


@pytest.mark.parametrize("name", SEEN)
def test_linux_does_some_of_each(name):
    """Rules and packets meet: no verdict is so frequent that nothing else is compared."""
    found = [verdict(sent, out) for sent, out in judged(name)]
    most = max(found.count(word) for word in set(found))
    assert most < 0.8 * len(found)


@pytest.mark.parametrize("name", SCENARIOS)
def test_forwarder_agrees(name):
    with our_router(SCENARIOS[name].toml) as router:
        told = faults(SCENARIOS[name], judged(name), router.run(SCENARIOS[name]))
    assert not told, "\n".join(["", *told])
