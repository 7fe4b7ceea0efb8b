# SPDX-License-Identifier: Apache-2.0
"""Only what pyproject.toml cannot say: which cffi module to build."""

from setuptools import setup

setup(cffi_modules=["csrc/build_ffi.py:ffi"])
