# SPDX-License-Identifier: Apache-2.0
"""A stand-in for benchmarks.gauge.Gauge, for tests of the benchmarks."""


class Quiet:
    """A gauge that never sees anybody."""

    best = 1.0

    def read(self):
        return 1.0

    def disturbed(self, _reading):
        return False

    def remember(self):
        pass
