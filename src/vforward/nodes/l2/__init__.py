# SPDX-License-Identifier: Apache-2.0
"""Nodes that forward by the link layer alone."""
