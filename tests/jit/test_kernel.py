# SPDX-License-Identifier: Apache-2.0
"""What the decorator promises."""

import copy
import pickle
import threading
import time

import numba
import numpy as np
import pytest

from vforward.jit.intrinsics import relax
from vforward.jit.kernel import inline, kernel, merged


@kernel
def divide(a, b):
    """A doc."""
    return a // b


@kernel
def spin(flag, turns):
    for _ in range(turns):
        relax()
    flag[0] = 1


@inline
def twice(a):
    return 2 * a


@kernel
def four_times(a):
    return twice(twice(a))


@kernel
def allocate(n):
    return np.zeros(n, np.uint8)


def test_there_is_no_zero_division_error():
    divide(np.int64(7), np.int64(0))
    assert divide(np.int64(7), np.int64(2)) == 3


def test_it_keeps_name_and_text():
    assert divide.__name__ == "divide"
    assert divide.__doc__ == "A doc."
    assert divide.py_func(9, 2) == 4


def test_the_interpreter_runs_on_beside_a_kernel():
    flag = np.zeros(1, np.int64)
    spin(flag, 1)
    flag[0] = 0
    thread = threading.Thread(target=spin, args=(flag, 20_000_000))
    thread.start()
    turns = 0
    while not flag[0] and turns < 10:
        time.sleep(0.001)
        turns += 1
    thread.join()
    assert turns > 1, "the kernel held the GIL"


def test_helpers_are_merged():
    assert four_times(3) == 12


def test_a_merged_kernel_is_for_other_kernels():
    names = {"inner": merged(four_times.py_func)}
    exec("def outer(a):\n    return inner(a) + 1\n", names)
    assert kernel(names["outer"])(4) == 17


def test_a_kernel_that_allocates_is_refused():
    with pytest.raises(numba.core.errors.NumbaError):
        allocate(3)


def test_functions_without_a_file_compile_too():
    names = {"kernel": kernel}
    exec("@kernel\ndef plus(a, b):\n    return a + b\n", names)
    assert names["plus"](2, 3) == 5


def test_a_copy_is_the_kernel_itself():
    assert copy.deepcopy(divide) is divide
    assert pickle.loads(pickle.dumps(divide)) is divide


def test_what_all_objects_are_asked_for_makes_no_dispatcher():
    @kernel
    def unused(a):
        return a

    assert not hasattr(unused, "__wrapped__")
    assert "dispatcher" not in vars(unused)
    assert unused(3) == 3
    assert "dispatcher" in vars(unused)
