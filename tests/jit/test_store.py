# SPDX-License-Identifier: Apache-2.0
"""What is compiled anew after an edit, and what is not; what checkouts share."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.registry import cpu_target

from vforward.jit import be, cache, sources
from vforward.jit.atomics import load_acquire16
from vforward.jit.intrinsics import ctz, prefetch
from vforward.jit.kernel import kernel
from vforward.jit.store import Store
from vforward.packet import checksum

LOW = (
    '"""Text."""\nfrom vforward.jit.kernel import inline\n@inline\ndef low(x):\n    return x + 1\n'
)
FILES = {
    "packet/__init__.py": "",
    "packet/limits.py": "LIMIT = 10\n",
    "packet/low.py": LOW,
    "packet/user.py": """
from vforward.jit.kernel import kernel
from vforward.packet.limits import LIMIT
from vforward.packet.low import low
@kernel
def user(x):
    return low(x) + LIMIT
""",
    "packet/other.py": """
from vforward.jit.kernel import kernel
@kernel
def other(x):
    return 2 * x
""",
    "control.py": '"""Text."""\nfrom vforward.packet import user, other\n',
}
RUN = """
import json
from numba.core import event
from vforward import control
compiled = []
class Listen(event.Listener):
    def on_start(self, e): compiled.append(e.data["dispatcher"].__name__)
    def on_end(self, e): pass
with event.install_listener("numba:compile", Listen()):
    results = [control.user.user(1), control.other.other(1)]
print(json.dumps([results, sorted(set(compiled))]))
"""


@pytest.fixture
def checkout(tmp_path):
    """The package's lowest layer with three modules of kernels and a control plane over it."""
    return make_checkout(tmp_path / "one")


def make_checkout(directory):
    package = directory / "vforward"
    shutil.copytree(cache.PACKAGE / "jit", package / "jit", ignore=shutil.ignore_patterns("*.pyc"))
    for name in ("__init__.py", "errors.py", "layout.py"):
        shutil.copy(cache.PACKAGE / name, package)
    for name, text in FILES.items():
        (package / name).parent.mkdir(exist_ok=True)
        (package / name).write_text(text)
    return package


def run(package, **environment):
    """[[what user and other return], functions compiled] in a process of its own."""
    given = {
        "PYTHONPATH": str(package.parent),
        "PYTHONDONTWRITEBYTECODE": "1",
        "VFORWARD_CACHE_DIR": str(package.parents[1] / "cache"),
    }
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        capture_output=True,
        text=True,
        env={**os.environ, **given, **environment},
        cwd=package.parent,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def edit(package, name, old, new):
    text = (package / name).read_text()
    assert old in text
    (package / name).write_text(text.replace(old, new))


@pytest.mark.slow
def test_an_edit_compiles_what_uses_it_and_nothing_else(checkout):
    assert run(checkout) == [[12, 2], ["low", "other", "user"]]
    assert run(checkout) == [[12, 2], []]
    edit(checkout, "packet/low.py", "x + 1", "x + 3")
    assert run(checkout) == [[14, 2], ["low", "user"]]
    edit(checkout, "packet/limits.py", "10", "20")
    assert run(checkout) == [[24, 2], ["user"]]
    edit(checkout, "packet/other.py", "2 * x", "3 * x")
    assert run(checkout) == [[24, 3], ["other"]]
    edit(checkout, "packet/limits.py", "20", "10")  # back: what was compiled is still there
    assert run(checkout) == [[14, 3], []]


@pytest.mark.slow
def test_texts_and_the_control_plane_compile_nothing(checkout):
    assert run(checkout)[1]
    edit(checkout, "control.py", '"""Text."""', '"""Another."""\nimport json')
    edit(checkout, "packet/low.py", '"""Text."""', '"""Another."""\n# Why.\n')
    for path in checkout.rglob("*.py"):
        os.utime(path, (1, 1))
    assert run(checkout) == [[12, 2], []]


@pytest.mark.slow
def test_checkouts_share_what_they_agree_on(checkout, tmp_path):
    assert run(checkout)[1]
    second = make_checkout(tmp_path / "two")
    assert run(second) == [[12, 2], []]
    edit(second, "packet/low.py", "x + 1", "x + 3")
    assert run(second) == [[14, 2], ["low", "user"]]
    assert run(checkout) == [[12, 2], []]
    assert run(second) == [[14, 2], []]


@pytest.mark.slow
def test_bounds_checks_have_a_cache_of_their_own(checkout):
    assert run(checkout)[1]
    assert run(checkout, NUMBA_BOUNDSCHECK="1")[1] == ["low", "other", "user"]
    assert run(checkout) == [[12, 2], []]


def add(x, y):
    return x + y


FACTOR = 2


@kernel
def scale(x):
    return x * FACTOR


def again(dispatcher):
    """A dispatcher of the same function, as another process would have it."""
    return kernel(dispatcher.py_func)


def files():
    return set(cache.part(*sources.origin(scale.py_func)).glob("*.nbc"))


def test_one_file_for_each_signature():
    made = kernel(add)
    made(1, 2)
    made(1.5, 2.5)
    codegen = cpu_target.target_context.codegen()
    own = {made._cache._path(types, codegen).name for types in made.signatures}
    names = {path.name for path in files() if path.name.startswith("add-")}
    assert len(own) == 2
    assert own <= names, "another checkout's may be there, too"
    assert kernel(add)(3, 4) == 7
    assert {path.name for path in files() if path.name.startswith("add-")} == names


def test_a_value_that_changes_at_run_time_is_noticed(monkeypatch):
    assert scale(3) == 6
    monkeypatch.setitem(scale.py_func.__globals__, "FACTOR", 5)
    assert again(scale)(3) == 15
    monkeypatch.undo()
    assert again(scale)(3) == 6


@kernel
def uses_everything(data, where):
    prefetch(data, where)
    word = be.load16(data, where, where) + ctz(be.load64(data, where, where))
    be.store32(data, where, where, word + checksum.fold(word))
    return min(word, load_acquire16(where))


def test_to_compile_changes_no_digest():
    """Else what is saved would not be found: under which name, is asked before and after."""
    before = sources.digest(uses_everything)
    uses_everything.compile("(uint8[:,::1], int64)")
    assert sources.digest(uses_everything) == before


def closing_over(value):
    def closed(x):
        return x + value

    return kernel(closed)


def test_closures_over_values_and_functions_are_apart():
    assert [closing_over(value)(1) for value in (1, 2, 1)] == [2, 3, 2]
    dtypes = [closing_over(dtype) for dtype in (np.dtype("u1"), np.dtype("u2"))]
    assert len({sources.digest(made) for made in dtypes}) == 2


def test_what_was_saved_for_other_types_is_not_taken(tmp_path, monkeypatch):
    """Were two signatures ever to have one name."""
    store = Store(add)
    monkeypatch.setattr(store, "_path", lambda *_: tmp_path / "one.nbc")
    made = kernel(add)
    made.dispatcher._cache = store
    assert made(1, 2) == 3
    assert made(1.5, 2.0) == 3.5
    assert [path.name for path in Path(tmp_path).iterdir()] == ["one.nbc"]


def test_a_directory_forgotten_meanwhile_is_made_anew():
    made = kernel(add)
    shutil.rmtree(cache.part(*sources.origin(add)))
    assert made(np.uint64(1), np.uint64(2)) == 3
    assert files()


def test_a_full_disk_keeps_nothing_and_compiles_all_the_same(monkeypatch, caplog):
    def refuse(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = files()
    monkeypatch.setattr(Path, "write_bytes", refuse)
    assert again(scale)(np.float32(2)) == 2 * FACTOR
    assert files() == before
    assert "compiled code is not kept" in caplog.text
    assert "No space left on device" in caplog.text
