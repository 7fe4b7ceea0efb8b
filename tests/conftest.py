# SPDX-License-Identifier: Apache-2.0
"""Skips what this machine may not do."""

import socket

import pytest


def _may_use_interfaces():
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close()
    except PermissionError:
        return False
    return True


def pytest_collection_modifyitems(items):
    if _may_use_interfaces():
        return
    skip = pytest.mark.skip(reason="needs CAP_NET_RAW: run as root or under unshare -Urn")
    for item in items:
        if item.get_closest_marker("root"):
            item.add_marker(skip)
