"""Whether all is compiled: of these very sources."""

import shutil

from vforward.control import compiled
from vforward.jit import cache


def test_complete_is_said_of_these_very_sources(tmp_path, monkeypatch):
    package = tmp_path / "vforward"
    package.mkdir()
    (package / "a.py").write_text("one = 1\n")
    monkeypatch.setattr(cache, "directory", lambda: tmp_path)
    monkeypatch.setattr(cache, "PACKAGE", package)
    assert not compiled.is_complete()
    cache.part.__wrapped__(*compiled.marker())
    assert compiled.is_complete()
    other = shutil.copytree(package, tmp_path / "other" / "vforward")
    monkeypatch.setattr(cache, "PACKAGE", other)
    assert not compiled.is_complete(), "its bytecode has not been made"
    monkeypatch.setattr(cache, "PACKAGE", package)
    (package / "a.py").write_text("one = 2\n")
    assert not compiled.is_complete()
