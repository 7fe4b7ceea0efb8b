# SPDX-License-Identifier: Apache-2.0
"""The `vforward` command: says what to install when the daemon extra is missing, else runs it."""

import gc
import os
import sys

OPTIONAL = {"typer", "rich", "pydantic"}
"""Of the extra: what the command line imports, some of it when a command runs."""
LOADED = 400_000
"""More objects than a start makes: to look for garbage while all is loaded took a fifth of it."""


def main() -> None:
    """Run the command line."""
    gc.set_threshold(LOADED, 50, 100)
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # to look for some takes 20 ms
    try:
        from vforward.control.cli import start

        start()
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        if name not in OPTIONAL:
            raise
        sys.stderr.write(
            "vforward: the command line needs the 'daemon' extra: "
            f"pip install 'vforward[daemon]' (missing: {name})\n"
        )
        sys.exit(2)
