# SPDX-License-Identifier: Apache-2.0
"""Neighbor discovery (RFC 4861) on the data path: answer solicitations, tell the control plane."""
