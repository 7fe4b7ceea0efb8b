# SPDX-License-Identifier: Apache-2.0
"""Measurements of vforward: one harness, and a file per group of cases (see docs/benchmarks.md)."""
