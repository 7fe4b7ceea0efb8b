# SPDX-License-Identifier: Apache-2.0
"""Nodes of virtual reassembly: what its nodes for IPv4 and IPv6 share, and its timer."""
