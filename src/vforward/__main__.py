# SPDX-License-Identifier: Apache-2.0
"""python -m vforward: the command, where it is not on the path."""

from vforward.control.main import main

main()
