# SPDX-License-Identifier: Apache-2.0
"""Versions are what the programs themselves say; of who does not, none is made up."""

import platform
from importlib import metadata

import pytest

from vforward.control import bench_command

bench_command.report()  # makes `benchmarks` importable

from benchmarks import peer_versions as versions


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A directory of programs, the only one in which they are looked for."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(versions, "PATH", str(tmp_path))
    versions._asked.cache_clear()
    yield tmp_path
    versions._asked.cache_clear()


def says(path, text, status=0):
    path.write_text(f'#!/bin/sh\n/bin/echo "{text}" >&2\nexit {status}\n')
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("program", "text", "asks", "answer"),
    [
        ("dpdk-testpmd", "EAL: RTE Version: 'DPDK 22.11.11'\nUsage:", versions.dpdk, "DPDK 22.11.11"),
        ("ovs-vswitchd", "ovs-vswitchd (Open vSwitch) 3.1.0\nDPDK", versions.open_vswitch,
         "Open vSwitch 3.1.0"),
        ("iperf3", "iperf 3.12 (cJSON 1.7.15)\nLinux", versions.iperf3, "iperf3 3.12"),
        ("nft", "nftables v1.0.6 (Lester Gooch #5)", versions.nftables,
         f"nft 1.0.6, Linux {platform.release()} (nftables, conntrack)"),
    ],
)  # fmt: skip
def test_a_program_says_its_version_once(programs, program, text, asks, answer):
    says(programs / program, text, status=1)
    assert asks() == answer
    (programs / program).unlink()
    assert asks() == answer


def test_who_says_nothing_has_no_version(programs):
    assert versions.dpdk() == "DPDK unknown version"
    says(programs / "iperf3", "usage")
    assert versions.iperf3() == "iperf3 unknown version"


def test_packages_and_the_kernel():
    assert versions.package("numpy") == f"numpy {metadata.version('numpy')}"
    assert versions.package("no-such") == "no-such, unknown version"
    assert versions.linux("bridge") == f"Linux {platform.release()} (bridge)"
