# SPDX-License-Identifier: Apache-2.0
"""Which files a module is made from, and which edits count."""

import json

import pytest

from vforward.jit import cache, imports

FILES = {
    "__init__.py": "from pack.top import anything\n",
    "top.py": "import numpy\nimport pack_of_another\n",
    "low.py": '"""Text."""\nLIMIT = 1\n',
    "jit/kernel.py": "import pack.low\n",
    "inner/__init__.py": "FROM_INIT = 1\n",
    "inner/plain.py": "import numpy as np, pack.low\nfrom pack.jit.kernel import kernel\n",
    "inner/hidden.py": "def f():\n    if f:\n        from pack.inner import plain, FROM_INIT\n",
    "inner/relative.py": "from .plain import x\nfrom ..low import LIMIT\nfrom . import hidden\n",
    "inner/around.py": "from pack.inner.back import (\n    a,\n)\n",
    "inner/back.py": "import pack.inner.around as other\n",
    "inner/star.py": "from pack.low import *\n",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package of that name with those files, and a cache of its own."""
    for name, text in FILES.items():
        path = tmp_path / "pack" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    directory = tmp_path / "cache"
    directory.mkdir()
    monkeypatch.setattr(cache, "PACKAGE", tmp_path / "pack")
    monkeypatch.setattr(cache, "directory", lambda: directory)
    forget()
    yield tmp_path / "pack"
    forget()


def forget():
    """As a new process."""
    for function in (
        *(imports.digest, imports._imported),
        *(imports._facts, imports._known, imports._modules),
    ):
        function.cache_clear()


def closure(package, name):
    forget()
    return {path.relative_to(package).as_posix() for path in imports.closure(package / name)}


@pytest.mark.parametrize(
    ("name", "others"),
    [
        ("low.py", set()),
        ("top.py", set()),
        ("inner/star.py", {"low.py"}),
        ("inner/plain.py", {"low.py", "__init__.py", "top.py"}),
        ("inner/hidden.py", {"inner/__init__.py", *("inner/plain.py", "low.py", "__init__.py", "top.py")}),
        ("inner/around.py", {"inner/back.py", "inner/__init__.py", "__init__.py", "top.py"}),
    ],
)  # fmt: skip
def test_the_closure(package, name, others):
    """The decorator's file is never in it: that is in the stamp."""
    assert closure(package, name) == {name, *others}


def test_relative_imports(package):
    found = closure(package, "inner/relative.py")
    assert {"inner/plain.py", "low.py", "inner/hidden.py", "inner/__init__.py"} <= found


@pytest.mark.parametrize(
    ("name", "dotted"),
    [("low.py", "pack.low"), ("inner/__init__.py", "pack.inner"), ("__init__.py", "pack")],
)
def test_names(package, name, dotted):
    assert imports.dotted(package / name) == dotted


def digests(package):
    forget()
    return {name: imports.digest(package / name) for name in FILES}


@pytest.mark.parametrize("edited", ["low.py", "top.py", "inner/plain.py", "inner/around.py"])
def test_an_edit_changes_the_digests_of_what_imports_it_and_no_other(package, edited):
    before = digests(package)
    users = {name for name in FILES if edited in closure(package, name)}
    (package / edited).write_text(FILES[edited] + "MORE = 1\n")
    after = digests(package)
    assert {name for name in FILES if before[name] != after[name]} == users
    assert users >= {edited}
    assert set(FILES) - users


def test_a_new_import_counts(package):
    before = digests(package)
    (package / "top.py").write_text("import numpy\nimport pack.low\n")
    assert digests(package)["top.py"] != before["top.py"]
    assert "low.py" in closure(package, "top.py")


@pytest.mark.parametrize(
    "text", ['"""Other."""\nLIMIT = 1\n', '# Why.\n\n"""Text."""\nLIMIT = (1)']
)
def test_comments_docstrings_and_layout_do_not_count(package, text):
    before = digests(package)
    (package / "low.py").write_text(text)
    assert digests(package) == before


def test_a_moved_file_counts(package):
    before = imports.digest(package / "low.py")
    (package / "low.py").rename(package / "lower.py")
    assert imports.digest(package / "lower.py") != before


def test_facts_are_kept_and_believed_for_the_same_text_only(package, monkeypatch):
    before = digests(package)
    imports._save()
    monkeypatch.setattr(imports, "_parsed", lambda text: pytest.fail("parsed again"))
    assert digests(package) == before
    monkeypatch.undo()


def test_what_is_kept_stays_small_and_a_spoilt_file_is_no_harm(package, monkeypatch):
    before = digests(package)
    monkeypatch.setattr(imports, "KNOWN_MAX", len(FILES))
    (cache.directory() / imports.FILE).write_text(json.dumps({"old": ["0", []]}))
    imports._save()
    assert "old" not in json.loads((cache.directory() / imports.FILE).read_text())
    (cache.directory() / imports.FILE).write_text("{")
    assert digests(package) == before


def test_the_real_package():
    """A node's code depends on its helpers, and on no part of the control plane."""
    node = cache.PACKAGE / "nodes" / "ip4" / "lookup.py"
    names = {path.relative_to(cache.PACKAGE).as_posix() for path in imports.closure(node)}
    assert {"tables/adjacency.py", "tables/trie.py", "layout.py", "packet/flow_hash.py"} <= names
    assert not [name for name in names if name.startswith(("control/", "io/"))]
    compiled_in = {"__init__", "atomics", "be", "intrinsics", "vector"}
    files = {path.stem for path in (cache.PACKAGE / "jit").glob("*.py")}
    assert files == {*compiled_in, *cache.MACHINERY}
    assert {f"jit/{name}.py" for name in ("__init__", "be", "intrinsics")} <= names
    assert not names & {f"jit/{name}.py" for name in cache.MACHINERY}
