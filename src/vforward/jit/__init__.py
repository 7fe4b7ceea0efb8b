# SPDX-License-Identifier: Apache-2.0
"""The only door to Numba: the kernel decorator, the intrinsics, the cache, the C entries."""
