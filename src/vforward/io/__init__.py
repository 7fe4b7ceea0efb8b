# SPDX-License-Identifier: Apache-2.0
"""The ports: where packets come in and go out, and the system calls they need."""
