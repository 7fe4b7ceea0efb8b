# SPDX-License-Identifier: Apache-2.0
"""What every node should do, in slow and obvious Python: ints and bytes, from the RFCs.

Nothing here imports vforward, numpy or numba (tests/test_architecture.py checks it), so that the
kernels and their oracle cannot share a mistake. `router.Router` puts all of them together.
"""
