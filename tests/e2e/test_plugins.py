# SPDX-License-Identifier: Apache-2.0
"""`vforward node` against a daemon that has given up its privileges, while it forwards."""

import json
import subprocess
from pathlib import Path

import pytest

import plugin_files
from e2e.lab import until
from e2e.process import MADE, command, daemon


@pytest.fixture
def world(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))
    file = tmp_path / "made.toml"
    file.write_text(MADE.format(name="made"))
    with daemon(file) as process:
        yield process, tmp_path


def vforward(*arguments, status=0):
    done = subprocess.run(
        command(*arguments), capture_output=True, text=True, timeout=400, check=False
    )
    assert done.returncode == status, done
    return done.stdout if status == 0 else done.stderr


def packets(name):
    rows = json.loads(vforward("graph", "--json"))
    return next((row["packets"] for row in rows if row["name"] == name), None)


def test_from_load_to_unload(world):
    process, directory = world
    status = Path(f"/proc/{process.pid}/status").read_text()
    confined = "Seccomp:\t2" in status
    place = plugin_files.write(directory / "probe.py")
    assert vforward("node", "list") == "no plug-ins\n"
    said = vforward("node", "load", place)
    assert said.startswith("node probe loaded; packets waited "), (said, confined)
    assert "; begins anew: seen\n" in said
    until(lambda: packets("probe"), lambda: process.log.read_text(), 60)
    assert json.loads(vforward("node", "list", "--json"))[0]["place"] == place

    bad = plugin_files.write(directory / "bad.py", "seen[0] = np.zeros(3)[0]")
    error = vforward("node", "replace", "probe", bad, status=2)
    assert f"{bad}:" in error
    assert "zeros: this makes an array, and a kernel cannot have new memory" in error
    before = packets("probe")
    until(lambda: packets("probe") > before, lambda: process.log.read_text(), 60)

    assert "state kept: seen" in vforward("node", "replace", "probe")
    assert packets("probe") > before
    said = json.loads(vforward("node", "unload", "probe", "--json"))
    assert said["name"] == "probe"
    assert packets("probe") is None
    assert "Traceback" not in process.log.read_text()
    if confined:
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "Seccomp:\t2" in status
