# SPDX-License-Identifier: Apache-2.0
"""The rules that no reader should have to remember: layers, doors, mirrored tests, sizes, texts."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vforward.graph.node import Node

TESTS = Path(__file__).resolve().parent
SOURCE = TESTS.parent / "src" / "vforward"
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.name != "_shim.py")

ALLOWED = {
    "errors": set(),
    "layout": set(),
    "jit": {"errors", "layout"},
    "packet": {"errors", "layout", "jit"},
    "memory": {"errors", "layout", "jit", "packet"},
    "graph": {"errors", "layout", "jit", "packet", "memory"},
    "tables": {"errors", "layout", "jit", "packet", "memory", "rings"},
    "rings": {"errors", "layout", "jit", "packet", "memory"},
    "nodes": {
        *("errors", "layout", "jit", "packet", "memory", "tables", "rings"),
        *("graph.node", "graph.arcs", "graph.emit"),
    },
    "io": {"errors", "layout", "jit", "packet", "memory", "rings", "graph.node"},
}
"""Layer -> what its files may import, besides files of its own; those above, all below them:"""
LOW = set(ALLOWED)
ALLOWED |= {
    "testing": LOW,
    "presets": LOW | {"testing"},
    "control": LOW | {"testing", "presets"},
    "__main__": {"control"},
    "__init__": LOW | {"testing", "presets", "control"},
}

DOORS = {
    "numba": "jit/",
    "llvmlite": "jit/",
    "cffi": "io/shim.py",
    **dict.fromkeys(("pydantic", "typer", "rich"), "control/"),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn", "prometheus_client"), "control/"),
}
"""Package -> the only place that imports it."""

LINES_MAX = 400

UNTESTED = {
    "errors.py": "exceptions and their names, nothing that could fail",
    "layout.py": "asserts itself on import; every test of a buffer reads it",
    "control/api_models.py": "types; test_api.py and test_client.py hold what is answered against them",
    "control/api_read.py": "test_client.py holds each of its calls against control.observe",
    "control/capture_progress.py": "a record",
    "control/neighbor_users.py": "protocols",
    "control/client_config.py": "test_api_config.py calls the API by it",
    "control/interface_steps.py": "test_forwarder.py, test_run_keys.py and test_reload.py take each",
    "control/reload_ports.py": "test_reload.py has ports, VLANs and bridges come, change, go, and fail to",
    "control/rest.py": "test_reload.py looks at each packet around it",
    "graph/checks.py": "test_build.py puts graphs together wrongly in every way",
    "control/observe_rows.py": "rows, and how they are made: test_observe.py looks at all of them",
    "control/plugin_rows.py": "records",
    "graph/watch.py": "test_control.py and test_capture.py run it behind the scheduler",
    "io/port.py": "an interface; each port's test is its test",
    "io/af_packet_life.py": "e2e/test_faults.py takes interfaces away and brings them back",
    "io/af_packet_queue.py": "test_af_packet.py runs one behind its port, e2e/test_workers.py several",
    "io/af_packet_raw.py": "test_af_packet.py runs it behind its port",
    "io/af_packet_ring.py": "test_af_packet.py runs it behind its port",
    "io/af_packet_rx.py": "test_af_packet.py runs it behind its port",
    "io/af_packet_tx.py": "test_af_packet.py runs it behind its port",
    "io/af_xdp_tx.py": "test_af_xdp.py runs it behind its port",
    "io/af_xdp_rx.py": "test_af_xdp_receiver.py runs it behind its port",
    "io/memif_link.py": "test_memif.py and test_memif_hostile.py run it behind its port",
    "io/memif_nodes.py": "test_memif.py runs it behind its port",
    "io/memring_nodes.py": "test_memring.py runs it behind its port",
    "io/tap_rx.py": "test_tap.py runs it behind its port",
    "io/netmap_nodes.py": "test_netmap.py runs it behind its port",
    "rings/net_features.py": "names of bits",
    "io/vhost_port.py": "test_vhost.py and test_virtio.py are tests of its two kinds",
    "rings/vhost_device.py": "an interface; test_vhost_user.py has one of its kind",
    "io/vhost_copy.py": "test_vhost_rx.py and test_vhost_tx.py copy frames of every shape with it",
}
"""Files without a mirrored test, and why. (Of __init__.py: they re-export, and are tested here.)"""

LONG: dict[str, int] = {}
"""Files beyond LINES_MAX, still to be divided: these numbers only shrink."""


def relative(path):
    return path.relative_to(SOURCE).as_posix()


def imports(path):
    """(line, full module names) of every import in the file, also inside functions and types."""
    for item in ast.walk(ast.parse(path.read_text())):
        if isinstance(item, ast.Import):
            for alias in item.names:
                yield item.lineno, alias.name
        elif isinstance(item, ast.ImportFrom):
            package = "." * item.level + (item.module or "")
            for alias in item.names:
                yield item.lineno, f"{package}.{alias.name}"


def layer(path):
    return relative(path).split("/")[0].removesuffix(".py")


def allowed(own, name):
    """Whether a file of layer ``own`` may import vforward.<name>."""
    parts = name.split(".")
    return parts[0] == own or bool({parts[0], ".".join(parts[:2])} & ALLOWED[own])


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_point_down(path):
    own = layer(path)
    assert own in ALLOWED, f"{own} is in no layer: add it to ALLOWED, as low as it can be"
    wrong = [
        f"{relative(path)}:{line} imports {name}"
        for line, name in imports(path)
        if name.split(".")[0] == "vforward"
        and not allowed(own, name.removeprefix("vforward."))
        and name != "vforward"
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_are_written_in_full(path):
    assert not [line for line, name in imports(path) if name.startswith(".")]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_others_are_imported_at_their_door_only(path):
    wrong = [
        f"{relative(path)}:{line} imports {name}; only {door} may"
        for line, name in imports(path)
        if (door := DOORS.get(name.split(".")[0])) and not relative(path).startswith(door)
    ]
    assert not wrong, wrong


def test_the_rule_would_find_a_breach():
    assert allowed("nodes", "graph.node.Node")
    assert allowed("nodes", "nodes.ip4.input")
    assert not allowed("nodes", "graph.scheduler.run")
    assert not allowed("nodes", "io.port")
    assert not allowed("tables", "graph.node")
    assert not allowed("rings", "tables.fib")
    assert not allowed("io", "nodes")
    assert not allowed("graph", "control")


def test_importing_the_library_is_light():
    """No package of the daemon's, nothing compiled, no cache, and no shim."""
    code = """
import sys
import vforward
heavy = {"pydantic", "typer", "rich", "fastapi", "uvicorn", "scapy", "matplotlib"}
heavy |= {"starlette", "prometheus_client", "asyncio"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert "vforward.io._shim" not in sys.modules
if "numba" in sys.modules:
    from numba.core.dispatcher import Dispatcher
    import gc
    compiled = [d.__name__ for d in gc.get_objects() if isinstance(d, Dispatcher) and d.signatures]
    assert not compiled, compiled
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ)


@pytest.mark.parametrize(
    "path", sorted((TESTS / "oracles").glob("*.py")), ids=lambda path: path.name
)
def test_oracles_are_independent(path):
    if path.name.startswith("test_"):
        pytest.skip("tests of the oracles may build packets as they like")
    found = {name.split(".")[0] for _, name in imports(path)}
    assert not found & {"vforward", "numba", "numpy", "scapy"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_file_has_its_test(path):
    name = relative(path)
    if path.name == "__init__.py" or name in UNTESTED:
        pytest.skip(UNTESTED.get(name, "re-exports"))
    mirror = TESTS / path.parent.relative_to(SOURCE) / f"test_{path.stem}.py"
    assert mirror.is_file(), f"{name} has no {mirror.relative_to(TESTS.parent)}"


def test_no_exception_is_stale():
    missing = [name for name in UNTESTED if not (SOURCE / name).is_file()]
    assert not missing, f"UNTESTED names files that are no more: {missing}"
    for name in UNTESTED:
        mirror = TESTS / Path(name).parent / f"test_{Path(name).stem}.py"
        assert not mirror.exists(), f"{name} has a test now: take it out of UNTESTED"


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_are_short(path):
    n = len(path.read_text().splitlines())
    assert n <= LONG.get(relative(path), LINES_MAX), (
        f"{relative(path)}: {n} lines; divide it by what it is about"
    )


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_say_their_licence_and_purpose(path):
    text = path.read_text()
    assert text.startswith("# SPDX-License-Identifier: Apache-2.0\n"), relative(path)
    assert ast.get_docstring(ast.parse(text)), f"{relative(path)} has no docstring"


def catalogue():
    try:
        from vforward.nodes import CATALOG
    except ImportError:
        return []
    return list(CATALOG.values()) if isinstance(CATALOG, dict) else list(CATALOG)


@pytest.mark.parametrize("node", catalogue(), ids=lambda node: node.name)
def test_nodes_of_the_catalogue_explain_themselves(node):
    assert isinstance(node, Node)
    for labels in (node.edges, node.counters):
        for label in labels or ():
            assert label.help.strip(), f"{node.name}: {label.label} has no text"
            assert not label.help.endswith("."), f"{node.name}: {label.label}: no full stop"
    function = getattr(node.kernel, "py_func", node.kernel)
    module = sys.modules[function.__module__]
    text = module.__doc__ or ""
    assert text.startswith(f"{node.name}:"), (
        f"{module.__name__}: its docstring begins with its name"
    )
    for word in ("Reads", "Writes", "Drops"):
        assert f"\n{word} " in text, f"{module.__name__}: its docstring has no line {word!r}"


def test_names_in_the_catalogue_are_unique():
    names = [node.name for node in catalogue()]
    assert len(set(names)) == len(names)
