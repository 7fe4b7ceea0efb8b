# SPDX-License-Identifier: Apache-2.0
"""Neighbors of both families on the data path: hold what waits for one, tell the control plane."""
