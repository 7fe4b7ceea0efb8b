# SPDX-License-Identifier: Apache-2.0
"""Where the control plane's own packets enter the graph."""
