# SPDX-License-Identifier: Apache-2.0
"""Describes the extension vforward.io._shim to cffi; setup.py names it, setuptools builds it."""

from pathlib import Path

import cffi

BEGIN, END = "/* cdef: begin */", "/* cdef: end */"

header = Path(__file__).with_name("vf_shim.h").read_text(encoding="utf-8")
ffi = cffi.FFI()
ffi.cdef(header.split(BEGIN)[1].split(END)[0])
ffi.set_source(
    "vforward.io._shim",
    '#include "vf_shim.h"',
    sources=[f"csrc/vf_{part}.c" for part in ("shim", "window", "bell", "bpf", "privilege")],
    include_dirs=["csrc"],
    depends=["csrc/vf_shim.h"],
    extra_compile_args=["-O2", "-Wall", "-Wextra"],
    # Without a compiler the package still installs: pcap and memory ports need no shim, and
    # using it raises ShimMissing. `make venv` checks that it was built.
    optional=True,
)
