# SPDX-License-Identifier: Apache-2.0
"""Shared memory: the arena of named segments, and the pool of packet buffers in it."""
