# SPDX-License-Identifier: Apache-2.0
"""Nodes of sessions, whatever they are of: see tables.session."""
