# SPDX-License-Identifier: Apache-2.0
"""Pages of 2 MiB: some reserved while a case runs, and whether memory of ours lies on them.

Who runs DPDK reserves them before, as its documentation tells; our arena has the kernel make them of what
is free (docs/adr/0025). So that DPDK is not measured as nobody runs it, a case reserves what is missing for
as long as it lasts, where it may (root) and four times as much memory is available, and then gives it back.
Where it may not, DPDK has pages of 4 KiB, and the row says so. A case that is killed by -9 gives nothing
back: `sysctl vm.nr_hugepages=0` does.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from benchmarks.dpdk_cases import MEMINFO, huge_pages

NUMBER = Path("/proc/sys/vm/nr_hugepages")
SMAPS = Path("/proc/self/smaps")
LARGE, SMALL = "2 MiB", "4 KiB"
KIB = 2048
"""Of a page."""
TIMES_AVAILABLE = 4


@contextlib.contextmanager
def reserved(mebibytes: int) -> Iterator[bool]:
    """Whether so much lies free in pages of 2 MiB, until the block ends."""
    before = _reserve(mebibytes)
    try:
        yield _free(mebibytes)
    finally:
        if before is not None:
            NUMBER.write_text(str(before))


def _free(mebibytes: int) -> bool:
    """Whether so much is. Where another size is the default there is none that we look for."""
    text = MEMINFO.read_text()
    return _says(text, "Hugepagesize") == KIB and huge_pages(text, mebibytes)


def _reserve(mebibytes: int) -> int | None:
    """Reserve what is missing. Returns how many pages there were before, None: as many as now."""
    text = MEMINFO.read_text()
    spare = _says(text, "MemAvailable") >= TIMES_AVAILABLE * mebibytes << 10
    if _free(mebibytes) or _says(text, "Hugepagesize") != KIB or not spare:
        return None
    missing = (mebibytes << 10) // KIB - _says(text, "HugePages_Free")
    try:
        before = int(NUMBER.read_text())
        NUMBER.write_text(str(before + missing))
    except OSError:
        return None
    return before


def _says(text: str, name: str) -> int:
    """A figure of /proc/meminfo, or of one mapping of smaps; 0 if it says nothing."""
    found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def page_size(array: NDArray[Any]) -> str:
    """The pages that most of an array's mapping lies on: LARGE or SMALL."""
    address = int(array.ctypes.data)
    for text in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", SMAPS.read_text(), flags=re.MULTILINE):
        span = re.match(r"([0-9a-f]+)-([0-9a-f]+) ", text)
        if span and int(span[1], 16) <= address < int(span[2], 16):
            large = _says(text, "ShmemPmdMapped") + _says(text, "AnonHugePages")
            whole = _says(text, "KernelPageSize") == KIB or 2 * large > _says(text, "Size")
            return LARGE if whole else SMALL
    msg = f"no mapping has {address:#x}"
    raise ValueError(msg)
