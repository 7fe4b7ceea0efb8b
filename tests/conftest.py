# SPDX-License-Identifier: Apache-2.0
"""Order of the tests, Hypothesis's settings, and skips of what this machine may not do."""

import logging
import socket

import pytest
from hypothesis import settings

# A first call may compile a kernel: no deadline. Seeded: what fails here fails everywhere.
settings.register_profile("vforward", deadline=None, derandomize=True)
settings.load_profile("vforward")


@pytest.fixture(autouse=True)
def _log_as_before():
    """A reload may have changed the process's log: later tests read theirs at the level that was."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


def _may_use_interfaces():
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except PermissionError:
        return False
    return True


def _rank(item):
    """The atomics' stress test runs before all that uses them, then the rest of jit."""
    path = item.path.as_posix()
    return 0 if path.endswith("jit/test_atomics_stress.py") else 1 if "/tests/jit/" in path else 2


def pytest_collection_modifyitems(items):
    items.sort(key=_rank)
    if _may_use_interfaces():
        return
    skip = pytest.mark.skip(reason="needs CAP_NET_RAW: run as root or under unshare -Urn")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)
