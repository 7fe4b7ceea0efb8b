# SPDX-License-Identifier: Apache-2.0
"""The data caches of a CPU, as Linux tells them, and what fits into which."""

from __future__ import annotations

from pathlib import Path

LEVELS = ("L1", "L2", "L3")
MEMORY = "memory"
SYSFS = Path("/sys/devices/system/cpu/cpu0/cache")
USUAL = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}
"""What is taken where Linux does not say."""
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def sizes(directory: Path = SYSFS) -> dict[str, int]:
    """Bytes of each level, data or unified."""
    found = dict(USUAL)
    for index in sorted(directory.glob("index*")):
        try:
            level, kind, size = (
                (index / name).read_text().strip() for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and f"L{level}" in found:
            found[f"L{level}"] = (
                int(size[:-1]) * UNITS[size[-1]] if size[-1] in UNITS else int(size)
            )
    return found


def fits(size: int, caches: dict[str, int]) -> str:
    """The smallest level that holds so many bytes, or "memory"."""
    return next((level for level in LEVELS if size <= caches[level]), MEMORY)
