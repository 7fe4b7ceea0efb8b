# SPDX-License-Identifier: Apache-2.0
"""The graph: declared nodes, checked wiring, the compiled scheduler. Knows no protocol."""
