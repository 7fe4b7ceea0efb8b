# SPDX-License-Identifier: Apache-2.0
"""A user-space vector packet forwarder."""
