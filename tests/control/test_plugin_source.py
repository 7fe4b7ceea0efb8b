"""Where plug-ins come from: whose files are run, and what is said of those that cannot be."""

import hashlib
import os
import sys
import weakref
from importlib import metadata

import pytest

import plugin_files
from vforward.control import plugin_source
from vforward.control.plugin_source import GROUP, is_file, load
from vforward.errors import KernelError


def test_a_file_and_its_digest(tmp_path):
    path = tmp_path / "probe.py"
    first = load(plugin_files.write(path))
    assert (first.plugin.node.name, first.place) == ("probe", str(path))
    second = load(plugin_files.write(path, name="other"))
    assert second.plugin.node.name == "other"
    assert second.digest != first.digest
    assert load(plugin_files.write(path)).digest == first.digest


def test_what_is_let_go(tmp_path):
    """Though the caches of what is compiled hold its functions."""
    first, again = (
        load(plugin_files.write(tmp_path / "probe.py", before=plugin_files.LARGE)) for _ in range(2)
    )
    name, large = again.module.__name__, [weakref.ref(s.module.LARGE) for s in (first, again)]
    first.let_go()
    assert large[0]() is None
    assert large[1]() is not None
    assert sys.modules[name] is again.module
    again.let_go()
    again.let_go()
    assert large[1]() is None
    assert name not in sys.modules
    assert again.plugin.node.name == "probe"


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_can_write_to(tmp_path, mode):
    path = tmp_path / "probe.py"
    plugin_files.write(path)
    path.chmod(mode)
    with pytest.raises(
        KernelError, match=f"others must not be able to write .*mode 0{mode:o}.*go-w"
    ):
        load(str(path))


def test_a_file_of_somebody_elses(tmp_path, monkeypatch):
    path = tmp_path / "probe.py"
    plugin_files.write(path)
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1)
    if mine:
        with pytest.raises(KernelError, match=f"must belong to uid {mine + 1} or root"):
            load(str(path))
    else:
        load(str(path))  # root's are everybody's
        os.chown(path, 12345, -1)
        with pytest.raises(KernelError, match=r"must belong to uid 1 or root, .*uid 12345's"):
            load(str(path))


def test_what_is_no_plug_in(tmp_path):
    path = tmp_path / "probe.py"
    before = set(sys.modules)
    for content, words in (
        ("", "has no PLUGIN = Plugin"),
        ("PLUGIN = 3", "has no PLUGIN = Plugin"),
        ("def f(:", r"line 1: invalid syntax"),
        (
            "\nimport nowhere_at_all",
            "line 2: ModuleNotFoundError: No module named 'nowhere_at_all'",
        ),
        ("raise SystemExit(3)", "line 1: SystemExit: 3"),
        ("x = 1\nx.y", "line 2: AttributeError"),
        ("#" * (plugin_source.SIZE_MAX + 1), "it is no file of at most"),
    ):
        path.write_text(content)
        path.chmod(0o600)
        with pytest.raises(KernelError, match=f"plug-in {path}: .*{words}"):
            load(str(path))
        assert not [name for name in set(sys.modules) - before if "probe" in name]
    with pytest.raises(KernelError, match="it is no file"):
        load(str(tmp_path))
    with pytest.raises(KernelError, match="No such file"):
        load(str(tmp_path / "none.py"))


def test_what_it_declares_wrongly(tmp_path):
    path = tmp_path / "probe.py"
    path.write_text(plugin_files.text().replace('"seen": Table(4, np.uint64)', ""))
    path.chmod(0o600)
    with pytest.raises(KernelError, match="plug-in probe: its kernel takes 'seen': declare it"):
        load(str(path))


def test_entry_points(tmp_path, monkeypatch):
    (tmp_path / "own_nodes.py").write_text(plugin_files.text())
    point = metadata.EntryPoint("mine", "own_nodes:PLUGIN", GROUP)
    whole = metadata.EntryPoint("whole", "own_nodes", GROUP)

    def found(group):
        assert group == GROUP
        return metadata.EntryPoints([point, whole])

    monkeypatch.setattr(metadata, "entry_points", found)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugin_source.entry_points() == ["mine", "whole"]
    mine = load("mine")
    mine.let_go()  # which is others' too: it stays
    assert mine.plugin.node.name == "probe"
    assert sys.modules["own_nodes"].PLUGIN is mine.plugin
    (tmp_path / "own_nodes.py").write_text(plugin_files.text(name="a-longer-name"))
    assert load("whole").plugin.node.name == "a-longer-name"  # as it was installed anew
    with pytest.raises(KernelError, match=r"plug-in none: no entry point .*there are: mine, whole"):
        load("none")
    (tmp_path / "own_nodes.py").write_text("raise RuntimeError('broken now, and long')")
    with pytest.raises(KernelError, match="plug-in mine: RuntimeError: broken now"):
        load("mine")
    sys.modules.pop("own_nodes", None)


def test_what_is_there_is_known_before_it_runs(tmp_path):
    path = tmp_path / "probe.py"
    place = plugin_files.write(path, before="raise RuntimeError('was run')")
    content = plugin_source.content_of(place)
    assert content == (place, hashlib.sha256(path.read_bytes()).hexdigest())
    for missing, words in (
        (str(tmp_path / "none.py"), "No such file"),
        ("nothing-of-that-name", "no entry point of that name"),
        ("", "no entry point of that name"),
        ("/\0", "null byte"),
        ("/\udc80", "No such file"),
    ):
        with pytest.raises(KernelError, match=words):
            plugin_source.content_of(missing)
    plugin_files.write(path)
    assert load(place).content == plugin_source.content_of(place)


def test_what_a_path_is():
    assert is_file("./x")
    assert is_file("x.py")
    assert is_file("/x")
    assert not is_file("x")
