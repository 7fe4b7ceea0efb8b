"""The process in which a plug-in is tried has given up what it does not need."""

import plugin_files
from vforward.control import plugin_helper
from vforward.io import seccomp, shim

BEFORE = """
import os, pathlib
status = pathlib.Path("/proc/self/status").read_text()
told = dict(line.split(":", 1) for line in status.splitlines())
assert int(told["CapEff"], 16) == 0, "capabilities"
assert told["NoNewPrivs"].strip() == "1", "no_new_privs"
try:
    os.execv("/bin/true", ["true"])
except PermissionError:
    pass
else:
    raise AssertionError("it can run programs")
"""


def test_it_can_run_nothing_and_has_no_capability(tmp_path):
    assert shim.built()
    place = plugin_files.write(tmp_path / "probe.py", before=BEFORE)
    helper = plugin_helper.Helper()
    try:
        answer = helper.ask({"place": place}, checked=True)
    finally:
        helper.close()
    assert answer["status"] == 0, answer
    assert answer["out"].splitlines()[-1] == '{"error": ""}', answer["out"]
    assert seccomp.REFUSED["execve"]
