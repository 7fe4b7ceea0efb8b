# SPDX-License-Identifier: Apache-2.0
"""Whether all is compiled that this version may need: a mark in the cache, left by control.compile.

Apart from it, since who only asks need not load all that can be compiled.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from vforward.jit import cache, imports


def is_complete() -> bool:
    """Whether it is."""
    return cache.place(*marker()).exists()


def mark() -> None:
    """Say that it is."""
    cache.part(*marker())


def marker() -> tuple[str, str]:
    """What there is a part of the cache for when all is compiled of just these sources, in this place.

    Python's own bytecode of them, which is made then too, lies beside them.
    """
    digest = hashlib.sha256(str(cache.PACKAGE).encode())
    for path in sources():
        digest.update(imports.dotted(path).encode() + path.read_bytes())
    return "complete", digest.hexdigest()[:16]


def sources() -> list[Path]:
    """The package's modules."""
    return sorted(cache.PACKAGE.rglob("*.py"))
