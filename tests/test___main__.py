# SPDX-License-Identifier: Apache-2.0
"""python -m vforward is the command."""

import subprocess
import sys


def test_it_is_the_command():
    command = [sys.executable, "-m", "vforward", "--version"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert said.startswith("vforward ")
