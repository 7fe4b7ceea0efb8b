# SPDX-License-Identifier: Apache-2.0
"""ARP on the data path: answer requests, tell the control plane, hold what waits for an answer."""
