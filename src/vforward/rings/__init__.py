# SPDX-License-Identifier: Apache-2.0
"""Rings in shared memory."""
