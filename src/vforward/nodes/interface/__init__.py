# SPDX-License-Identifier: Apache-2.0
"""Nodes on the way out: to a port, or to nowhere."""
