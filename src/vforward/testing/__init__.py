# SPDX-License-Identifier: Apache-2.0
"""Tools for testing nodes and graphs, public: packet builders, and more to come."""

from vforward.testing import packets

__all__ = ["packets"]
