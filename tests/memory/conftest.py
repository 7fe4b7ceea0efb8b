# SPDX-License-Identifier: Apache-2.0
"""What the tests of arenas share."""

import pytest

from vforward.memory.arena import Arena


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A runtime directory of this test's own."""
    path = tmp_path / "run"
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(path))
    return path


@pytest.fixture
def owner(place):
    with Arena.create("a") as arena:
        yield arena
