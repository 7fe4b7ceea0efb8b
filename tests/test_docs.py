"""What the documents show runs: README's examples, the node of add-a-node; links lead somewhere."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from oracles import ip4
from vforward.control import config
from vforward.control.cli import app

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCED = re.compile(r"^```\w*\n.*?^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]+)[^)]*\)")


def block(document, language, mark=""):
    """The first code block of a language in a document, directly behind a mark if given."""
    text = (ROOT / document).read_text()
    found = re.search(rf"{re.escape(mark)}\n*```{language}\n(.*?)^```$", text, re.M | re.S)
    assert found, f"{document}: no {language} block {mark}"
    return found[1]


def load(name, path, text):
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def runtime(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path / "runtime"))


def test_the_library_example(capsys):
    code = block("README.md", "python")
    exec(compile(code, "README.md", "exec"), {})
    frame = bytes.fromhex(capsys.readouterr().out)
    assert frame[:6] == bytes.fromhex("020000000209")
    assert frame[12:14] == b"\x08\x00"
    assert ip4.check(frame[14:]) is None
    assert (ip4.ttl(frame[14:]), frame[-5:]) == (63, b"hello")
    assert len([line for line in code.splitlines() if line]) <= 12


def test_the_configuration_example():
    text = block("README.md", "toml")
    found = config.parse(text, "router.toml")
    assert list(found.ports) == ["lan", "wan"]
    assert len(found.routes) == 1
    assert len(text.splitlines()) <= 12


def test_the_node_example(tmp_path, monkeypatch):
    def example(mark):
        return block("docs/add-a-node.md", "python", f"<!-- {mark} -->")

    names = dict(vars(ip4))
    exec(compile(example("oracle"), "add-a-node.md", "exec"), names)
    monkeypatch.setattr(ip4, "dec_ttl", names["dec_ttl"], raising=False)
    name = "vforward.nodes.ip4.dec_ttl"
    node = load(name, tmp_path / "dec_ttl.py", example("node"))
    monkeypatch.setitem(sys.modules, name, node)
    load("test_dec_ttl", tmp_path / "test_dec_ttl.py", example("test")).test_as_the_oracle()
    assert node.NODE.tables == ("min_ttl",)
    for word in ("Reads", "Writes", "Drops"):
        assert f"\n{word} " in node.__doc__


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    prose = FENCED.sub("", document.read_text())
    for target in LINK.findall(prose):
        if "://" not in target:
            assert (document.parent / target).exists(), target


def commands(command, path=()):
    """(words, options, one of whose names is to be found) of each command."""
    for name, one in getattr(command, "commands", {}).items():
        yield from commands(one, (*path, name))
    if path and not hasattr(command, "commands"):
        yield " ".join(path), [one.opts for one in command.params if one.opts[0].startswith("-")]


def test_every_command_and_option_is_in_the_page_of_commands():
    page = (ROOT / "docs/cli.md").read_text()
    found = dict(commands(get_command(app)))
    assert len(found) > 20
    for command, options in found.items():
        assert f"`vforward {command}" in page, command
        for names in options:
            assert any(re.search(rf"(?<![\w-]){name}(?![\w-])", page) for name in names), names


def test_every_file_to_start_from_is_in_readme():
    text = (ROOT / "README.md").read_text()
    for path in sorted((ROOT / "examples").glob("*.toml")):
        assert f"(examples/{path.name})" in text, path.name


def test_the_glossary_has_a_word_once_and_names_files_that_are_there():
    text = (ROOT / "docs/glossary.md").read_text()
    words = re.findall(r"^\| ([^|]+) \|", text, re.M)
    assert len(words) > 100
    assert sorted(words) == sorted(set(words))
    for name in re.findall(r"`((?:\w+/)+\w+(?:\.[a-z]+)?)`", text):
        there = (ROOT / name, ROOT / "src/vforward" / name)
        assert any(path.exists() for path in there), name


def test_every_decision_has_its_parts():
    numbers = []
    for path in sorted((ROOT / "docs" / "adr").glob("*.md")):
        text = path.read_text()
        numbers.append(int(path.name[:4]))
        assert text.startswith(f"# {path.name[:4]} "), path.name
        assert re.match(r"# .*\n\n\d{4}-\d\d-\d\d, accepted", text), path.name
        for part in ("Context", "Decision", "Rejected", "Consequence"):
            assert f"\n## {part}\n" in text, f"{path.name}: {part}"
    assert numbers == list(range(1, len(numbers) + 1))
