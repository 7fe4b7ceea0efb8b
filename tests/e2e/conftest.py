# SPDX-License-Identifier: Apache-2.0
"""Arenas of their own, so that no other forwarder of this machine is in the way."""

import pytest

from e2e.lab import lab


@pytest.fixture(autouse=True, scope="session")
def runtime(tmp_path_factory):
    """A private directory for arenas."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("runtime")
        patch.setenv("VFORWARD_RUNTIME_DIR", str(root / "arenas"))
        yield root / "arenas"


@pytest.fixture
def place():
    """Hosts h1 and h2 and a namespace for the router, joined."""
    with lab() as made:
        yield made
