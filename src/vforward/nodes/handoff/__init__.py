# SPDX-License-Identifier: Apache-2.0
"""Nodes by which workers hand packets to each other: only in the graph where there are several."""
