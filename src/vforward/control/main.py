# SPDX-License-Identifier: Apache-2.0
"""The `vforward` command: says what to install when the daemon extra is missing, else runs it."""

import sys

OPTIONAL = {"typer", "rich", "pydantic"}


def main() -> None:
    """Run the command line."""
    try:
        from vforward.control.cli import app
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name not in OPTIONAL:
            raise
        sys.stderr.write(
            "vforward: the command line needs the 'daemon' extra: "
            f"pip install 'vforward[daemon]' (missing: {name})\n"
        )
        sys.exit(2)
    app()
