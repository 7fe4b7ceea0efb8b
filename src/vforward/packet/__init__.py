# SPDX-License-Identifier: Apache-2.0
"""Where the fields of headers lie, and jitted helpers over packet bytes that nodes share."""
