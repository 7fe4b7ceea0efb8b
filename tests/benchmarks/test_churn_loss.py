# SPDX-License-Identifier: Apache-2.0
"""The client of churn-loss does what it says: so many changes, reads meanwhile, the rules in the end."""

import time

import pytest

import vforward
from gauges import Quiet
from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks.cases import CASES
from benchmarks.harness import LEAST
from benchmarks.rate_search import Trial
from benchmarks.session import Session

from benchmarks import churn_case, churn_client


@pytest.fixture
def router(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "r"))
    with vforward.Forwarder("churned", buffers=2048) as made:
        made.add_port("wan", vforward.MemoryPort(), "10.2.0.1/24")
        made.set_firewall(vforward.FirewallSettings(default="permit"))
        made.build()
        made.start()
        made.serve()
        yield made


def test_the_client_changes_and_reads(router, monkeypatch):
    monkeypatch.setattr(churn_client, "SINGLES", 20)
    monkeypatch.setattr(churn_client, "BATCH", 100)
    client = vforward.Client("churned")
    client.set_rules(churn_client.rules(50, churn_client.BEFORE))
    before, rules = router.routing.changes(), router.firewall.wanted.rules
    said = churn_client.churn(client, 2000, 50)
    assert said["changes"] >= 2000
    assert router.routing.changes() - before == said["changes"]
    assert said["reads"] >= 1
    assert said["changes_s"] > 0 < said["single_calls_s"]
    now = router.firewall.wanted.rules
    assert said["rules_before"] == len(rules) == len(now) == 51
    assert [rule for rule in now if rule in rules] == [rules[-1]], "all but one are others"
    rows = [r for r in router.routing.routes() if r.source == "configured"]
    nets = [r for r in rows if str(r.prefix).startswith("20.")]
    assert len(nets) == 50
    assert {str(r.prefix) for r in rows} - {str(r.prefix) for r in nets} == set(
        churn_client.OVER_TARGET
    )


def test_a_client_that_is_refused_says_so(router):
    client = vforward.Client("churned")
    client.add_route(churn_client.OVER_TARGET[0], type="blackhole")
    original, twice = client.change_routes, [{"prefix": "10.9.0.1/32"}] * 2
    client.change_routes = lambda add, delete: original(add, [*delete, *twice])
    with pytest.raises(RuntimeError, match=r"10\.9\.0\.1/32"):
        churn_client._change(client, 0)


def test_losses_are_summed_and_an_idle_tester_is_told():
    stretch = churn_case.Stretch(
        [Trial(90.0, 1000, 998), Trial(100.0, 1000, 990, overrun=4), Trial(95.0, 500, 500)], 3.0
    )
    assert stretch.sum("lost") == 8
    assert stretch.sum("overrun") == 4
    more = {"vector": 256, "packets": 0, "touched": 0}
    made = churn_case._row(Session(gauge=Quiet()), "churn-loss", stretch, 100.0, more, "x")
    assert (made["value"], made["lost"], made["sent"], made["packets"]) == (None, 8, 2500, 2500)
    assert made["missing"].startswith("no figure: OFFERED LESS: 95 packets/s of 100")
    made = churn_case._row(Session(gauge=Quiet()), "churn-loss", stretch, 95.0, more, "x")
    assert made["value"] == 8
    assert made["doubts"] == ["one run only"]
    assert "missing" not in made
    made = churn_case._row(
        Session(gauge=Quiet()), "churn-loss", stretch, 95.0, more, "x", reads_s=9.0
    )
    assert made["value"] is None
    assert made["missing"] == "no figure: READ LESS: 9.0 of 10 times a second"


@pytest.mark.parametrize(("left_s", "times"), [(60, 2), (-60, 1)])
def test_a_stretch_that_falls_short_is_repeated_once_where_there_is_time(left_s, times):
    made = []

    def make():
        made.append(churn_case.Stretch([Trial(50.0, 100, 100)], 3.0))
        return made[-1], {}

    stretch, _ = churn_case.once_more(make, 100.0, time.monotonic() + left_s)
    assert stretch is made[-1]
    assert len(made) == times
    made.clear()
    churn_case.once_more(make, 50.0, time.monotonic() + left_s)
    assert len(made) == 1


def test_a_rate_is_of_as_many_searches_as_any_figure_and_goes_by_the_testers_clock():
    assert churn_case.SEARCHES >= LEAST
    assert CASES["churn-loss"].load.clock == "TSC"
