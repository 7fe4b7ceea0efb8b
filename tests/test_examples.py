# SPDX-License-Identifier: Apache-2.0
"""The examples run, say what they should, and are short; their configurations are good."""

import subprocess
import sys
from pathlib import Path

import pytest

from vforward.control import config

EXAMPLES = Path(__file__).parents[1] / "examples"
SAY = {
    "own_node": "1 came through, 1 did not",
    "pcap_to_pcap": "1000 packets in, 1000 out",
    "route_two_memory_ports": "came out of wan: 02 00 00 00 00 02",
    "trace_a_packet": "icmp4-echo",
}
LINES_MAX = 40


def test_each_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAY)


@pytest.mark.parametrize("name", sorted(SAY))
def test_runs(name, tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert SAY[name] in done.stdout
    assert list(tmp_path.iterdir()) == [], "left behind"


def test_examples_are_short():
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= LINES_MAX, path.name


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_configuration_is_good(path):
    assert config.load(path).ports
