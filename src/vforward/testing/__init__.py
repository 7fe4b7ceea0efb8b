# SPDX-License-Identifier: Apache-2.0
"""Tools for testing nodes and graphs, public: packet builders, and a node run by itself."""

from vforward.testing import packets
from vforward.testing.run_node import Result, heap_pool, run_node

__all__ = ["Result", "heap_pool", "packets", "run_node"]
