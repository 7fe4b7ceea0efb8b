# SPDX-License-Identifier: Apache-2.0
"""What testpmd says each second, as recorded of 22.11.11 on Debian 12; macswap against the obvious."""

import shutil

import pytest

from gauges import Quiet
from vforward.control import bench_command
from vforward.graph import control as c
from vforward.testing import run_node

bench_command.report()  # makes `benchmarks` importable

from benchmarks.cases import CASES
from benchmarks.session import Session
from benchmarks.vhost_cases import (
    SWAP,
    WAYS,
    WIDE,
    Options,
    clocks_of,
    command,
    rates,
    vhost_echo,
    vhost_rx,
)

from benchmarks import huge_pages, vhost_cases

TEXT = """\
Port statistics ====================================
  ######################## NIC statistics for port 0  ########################
  RX-packets: 0          RX-missed: 0          RX-bytes:  0
  TX-packets: {}     TX-errors: 0          TX-bytes:  45559808

  Throughput (since last show)
  Rx-pps:            0          Rx-bps:            0
  Tx-pps:       {}          Tx-bps:    165823648
  ############################################################################
"""


def test_rates_begin_with_the_first_full_second():
    text = "".join(TEXT.format(7, n) for n in (0, 0, 5, 1000, 0, 1001))
    assert rates(text, "Tx-pps") == [1000, 0, 1001]
    assert rates(text, "Rx-pps") == []
    assert rates("", "Tx-pps") == []


def test_clocks_are_what_is_said_in_the_end():
    said = (
        "  CPU cycles/packet=84.98 (total cycles=8.5e9 / total RX packets=1e8) at 2595 MHz Clock\n"
    )
    assert clocks_of(TEXT.format(7, 0) + said) == [84.98]
    assert clocks_of(TEXT.format(7, 0)) == []


def test_clocks_are_of_all_nodes_for_each_packet_that_came_or_was_sent():
    def node(packets, clocks):
        stats = [0] * c.STATS
        stats[c.PACKETS], stats[c.CLOCKS] = packets, clocks
        return stats

    came = {
        "rx": node(100, 4000),
        "swap": node(100, 500),
        "tx": node(100, 4500),
        "drop": node(9, 0),
    }
    assert vhost_cases._clocks(came) == [90]
    made = {"rx": node(0, 0), "made": node(120, 2400), "tx": node(120, 5200), "drop": node(20, 400)}
    assert vhost_cases._clocks(made) == [80]
    assert vhost_cases._clocks(made | {"tx": node(0, 0), "drop": node(0, 0)}) == []


def test_macs_are_swapped():
    frame = bytes(range(60))
    result = run_node(SWAP, [frame])
    assert result.out == {"next": [frame[6:12] + frame[:6] + frame[12:]]}


def test_both_sides_run_on_one_cpu_each():
    said = command("net_vhost0,iface=x", WAYS["vhost-rx"].theirs, 3, "name")
    assert said[said.index("--lcores") + 1] == "0@3,1@3"
    assert said[-1] == "--forward-mode=rxonly"
    assert not [word for word in said if word.startswith("--burst")]  # as it comes: 32


def test_bursts_are_as_large_as_vectors_if_wanted():
    said = command("net_vhost0,iface=x", "rxonly", 3, "name", WIDE._replace(device=",queues=1"))
    of_dpdk, of_testpmd = said[: said.index("--")], said[said.index("--") :]
    assert "--burst=256" in of_testpmd
    assert of_dpdk[-1] == "--vdev=net_vhost0,iface=x,queues=1"


@pytest.mark.parametrize("huge", [True, False])
def test_memory_is_one_file_on_huge_pages_or_none(huge):
    said = command("net_vhost0,iface=x", "rxonly", 3, "name", Options(huge=huge))
    assert ("--no-huge" in said) is not huge
    assert ("--single-file-segments" in said) is huge


@pytest.mark.skipif(not shutil.which("dpdk-testpmd"), reason="no dpdk-testpmd")
def test_all_contestants_move_packets(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setattr(vhost_cases, "TIMES", 1)
    monkeypatch.setattr(vhost_cases, "SECONDS", 1)
    monkeypatch.setattr(vhost_cases, "steady", lambda _: 160.0)  # wherever the CPUs are
    before = huge_pages.NUMBER.read_text()
    *each, ratio = vhost_echo(Session(gauge=Quiet()))
    assert [row["case"] for row in each] == [
        f"vhost-echo-{who}" for who in ("ours", "net_vhost", "net_vhost-256")
    ]
    assert [row["vector"] for row in each] == [256, 32, 256]
    assert all(row["value"] > 0 for row in [*each, ratio])
    assert all(len(row["clocks"]) == 1 for row in each)
    assert all(row["clocks"][0][0] > 10 for row in each)  # many where others have the CPU
    assert "DPDK" in ratio["pages"]
    assert huge_pages.NUMBER.read_text() == before


def test_without_dpdk_there_is_a_row_that_says_so(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    (made,) = vhost_rx(Session())
    assert made["value"] is None
    assert "dpdk-dev" in made["missing"]


@pytest.mark.parametrize("name", WAYS)
def test_the_cases_are_in_the_catalogue(name):
    assert name in CASES
