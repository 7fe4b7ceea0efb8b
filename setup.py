# SPDX-License-Identifier: Apache-2.0
"""Only what pyproject.toml cannot say: what to build of C."""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

NETMAP = "vforward.rings.libvforward_netmap"


class Build(build_ext):
    """Builds the preload library, too: no module of Python's, so its file has a plain name."""

    def get_ext_filename(self, fullname: str) -> str:
        """Where an extension lies in the package."""
        if fullname.rpartition(".")[2] == NETMAP.rpartition(".")[2]:
            return f"{fullname.replace('.', '/')}.so"
        return super().get_ext_filename(fullname)


setup(
    cffi_modules=["csrc/build_ffi.py:ffi"],
    cmdclass={"build_ext": Build},
    ext_modules=[
        Extension(
            NETMAP,
            [f"csrc/netmap_{part}.c" for part in ("preload", "port", "sync")],
            depends=[f"csrc/netmap_{part}.h" for part in ("abi", "message", "port")],
            extra_compile_args=["-O2", "-Wall", "-Wextra", "-fvisibility=hidden"],
            libraries=["dl", "pthread"],
            optional=True,
        )
    ],
)
