# SPDX-License-Identifier: Apache-2.0
"""Machine code on disk, a file for each C entry: loaded without Numba, which would parse bitcode for each.

    hash of the rest, 64 hexadecimal digits | symbol, in a line | an object file, as LLVM made it

The directory is private (jit.cache); the hash tells a file that a crash cut short, at which LLVM would
end the process.
"""

from __future__ import annotations

import hashlib
import logging
from functools import cache
from pathlib import Path
from typing import Any

from llvmlite import binding as llvm
from numba.core import base
from numba.core.runtime import _nrt_python  # type: ignore[attr-defined]

from vforward.jit.cache import keep

log = logging.getLogger(__name__)

HASH = 64


def save(path: Path, symbol: str, code: bytes) -> None:
    """Keep an object file in which the symbol is a function. Replaces the file as a whole."""
    rest = symbol.encode() + b"\n" + code
    keep(path, hashlib.sha256(rest).hexdigest().encode() + rest)


def load(path: Path) -> int:
    """The address of the function that was kept, valid for the process's life, or 0: there is none."""
    try:
        kept = path.read_bytes()
    except FileNotFoundError:
        return 0
    symbol, _, code = kept[HASH:].partition(b"\n")
    if hashlib.sha256(kept[HASH:]).hexdigest().encode() != kept[:HASH]:
        log.warning("compiled code is damaged: %s", path)
        return 0
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return int(engine.get_function_address(symbol.decode()))


@cache
def offer_symbols() -> None:
    """Have what loaded code calls by name: Numba's helpers, of its C code and of its runtime.

    LLVM ends the process at a name that it does not find. All else that Numba prepares is for compiling,
    takes a tenth of a second, and is done when it compiles.
    """
    base._load_global_helpers()
    for name, address in _nrt_python.c_helpers.items():
        llvm.add_symbol(name if name.startswith("_") else f"NRT_{name}", address)


@cache
def _engine() -> Any:
    offer_symbols()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
