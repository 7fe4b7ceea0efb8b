"""Object files on disk: what is kept is loaded, and what is damaged is not."""

import subprocess
import sys

import pytest
from llvmlite import binding as llvm

from vforward.jit import objects
from vforward.jit.intrinsics import call4
from vforward.jit.kernel import kernel

SYMBOL = "adds_its_arguments"
TEXT = f"""
define i64 @{SYMBOL}(i64 %a, i64 %b, i64 %c, i64 %d) {{
  %1 = add i64 %a, %b
  %2 = add i64 %c, %d
  %3 = add i64 %1, %2
  ret i64 %3
}}
"""

HELPERS = ("numba_do_raise", "NRT_Allocate")
OF_HELPER = """
declare void @{0}()
define i64 @of_{0}() {{
  %1 = ptrtoint void ()* @{0} to i64
  ret i64 %1
}}
"""
LOADING = """
import ctypes, pathlib, sys
from vforward.jit import objects
for path in sys.argv[1:]:
    address = objects.load(pathlib.Path(path))
    assert ctypes.CFUNCTYPE(ctypes.c_int64)(address)()
"""


@kernel
def call(function, a, b, c, d):
    return call4(function, a, b, c, d)


def keep(path, symbol, text):
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    objects.save(path, symbol, machine.emit_object(llvm.parse_assembly(text)))
    return path


@pytest.fixture
def kept(tmp_path):
    """Its file."""
    return keep(tmp_path / "part" / "function.o", SYMBOL, TEXT)


def test_what_is_kept_is_loaded(kept):
    assert call(objects.load(kept), 1, 20, 300, 4000) == 4321
    assert [path.name for path in kept.parent.iterdir()] == [kept.name]


def test_numbas_helpers_are_there_before_it_compiled_anything(tmp_path):
    """In another process: one in which a symbol is missing is ended by LLVM."""
    paths = [keep(tmp_path / f"{name}.o", f"of_{name}", OF_HELPER.format(name)) for name in HELPERS]
    subprocess.run([sys.executable, "-c", LOADING, *paths], check=True)


def test_what_is_not_there_is_no_error(tmp_path):
    assert objects.load(tmp_path / "nothing.o") == 0


@pytest.mark.parametrize("length", [0, 1, objects.HASH - 1, objects.HASH, objects.HASH + 9, -1])
def test_a_file_cut_short_is_not_loaded(kept, length, caplog):
    kept.write_bytes(kept.read_bytes()[:length])
    assert objects.load(kept) == 0
    assert str(kept) in caplog.text


@pytest.mark.parametrize("at", [0, objects.HASH, objects.HASH + len(SYMBOL) + 30, -1])
def test_nor_is_one_with_a_changed_byte(kept, at):
    content = bytearray(kept.read_bytes())
    content[at] ^= 1
    kept.write_bytes(content)
    assert objects.load(kept) == 0


def test_where_there_is_no_room_nothing_is_kept(tmp_path, caplog):
    path = tmp_path / "in the way" / "function.o"
    (tmp_path / "in the way").write_text("")
    objects.save(path, SYMBOL, b"code")
    assert "compiled code is not kept" in caplog.text
