# SPDX-License-Identifier: Apache-2.0
"""Nodes between the router and its host's own programs, which stand behind TAP ports."""
