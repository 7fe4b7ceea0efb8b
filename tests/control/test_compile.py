"""vforward compile fills the cache: what follows compiles nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vforward.control import compile as compiling
from vforward.jit import cache, imports
from vforward.nodes import CATALOG


def test_every_step_is_reported(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    steps = []
    n = compiling.compile_all(lambda done, total, name: steps.append((done, total, name)))
    assert [done for done, _, _ in steps] == list(range(n))
    assert {total for _, total, _ in steps} == {n}
    names = {name for _, _, name in steps}
    assert {node.name for node in CATALOG} <= names
    assert {"memory-rx", "pcap-tx", "generator-rx", "null-tx", "scheduler", "packets"} <= names
    assert {"vhost-rx", "vhost-tx", "virtio-rx", "virtio-tx"} <= names
    assert os.environ["VFORWARD_RUNTIME_DIR"] == str(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_runtime_directory_stays_unset(monkeypatch):
    monkeypatch.delenv("VFORWARD_RUNTIME_DIR", raising=False)
    with compiling._aside() as directory:
        assert os.environ["VFORWARD_RUNTIME_DIR"] == str(directory)
    assert "VFORWARD_RUNTIME_DIR" not in os.environ
    assert not directory.exists()


def test_empty_cache_empties_this_version_only(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "directory", lambda: tmp_path)
    output = cache.PACKAGE / "nodes" / "interface" / "output.py"
    name = imports.dotted(output)
    ours = cache.place(name, imports.digest(output))
    others = [cache.place(name, "0"), cache.place("plug_in", "1")]
    for path in (ours, *others):
        path.mkdir()
        (path / "kernel.nbc").write_text("x")
    compiling.empty_cache()
    assert not ours.exists()
    assert [list(path.iterdir()) for path in others] == [[path / "kernel.nbc"] for path in others]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_nothing_is_left_to_compile(tmp_path):
    """Run the command cold, then a router on captures: it adds no file to the cache."""
    given = {"VFORWARD_CACHE_DIR": tmp_path / "cache", "VFORWARD_RUNTIME_DIR": tmp_path / "run"}
    environment = {**os.environ, **{name: str(path) for name, path in given.items()}}

    def vforward(*arguments):
        command = [Path(sys.executable).parent / "vforward", *arguments]
        return subprocess.run(command, env=environment, check=True, text=True, capture_output=True)

    def compiled():
        return {path for path in (tmp_path / "cache").rglob("*") if path.suffix in (".nbc", ".o")}

    said = vforward("compile", "--cold").stdout
    assert str(tmp_path / "cache") in said
    before = compiled()
    file = tmp_path / "router.toml"
    file.write_text(
        '[ports.a]\ntype = "generator"\ncount = 1000\naddress = "10.0.1.1/24"\n'
        '[ports.b]\ntype = "pcap"\nwrite = "out.pcap"\naddress = "10.0.2.1/24"\n'
    )
    vforward("run", str(file), "--exit-when-idle")
    assert before
    assert compiled() - before == set()
    assert compiled() == before
