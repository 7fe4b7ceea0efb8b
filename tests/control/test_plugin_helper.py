"""The process that has plug-ins tried: what it says of those that end their own."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import plugin_files
from vforward.control import plugin_helper
from vforward.control.plugin_helper import COMPILING, LOADING, TRYING, Helper
from vforward.errors import VforwardError


@pytest.fixture(scope="module")
def helper():
    made = Helper()
    yield made
    made.close()
    made.close()


def ask(helper, place, checked=True):
    answer = helper.ask({"place": place}, checked=checked)
    return answer["status"], [json.loads(line) for line in answer["out"].splitlines()]


def test_a_good_one(helper, tmp_path):
    place = plugin_files.write(tmp_path / "probe.py", before="print('not an answer')")
    for checked in (True, False):
        status, said = ask(helper, place, checked)
        stages = [LOADING, COMPILING, *([TRYING] if checked else [])]
        assert said == [*({"stage": stage} for stage in stages), {"error": ""}]
        assert status == 0


def test_a_kernel_that_does_not_return(helper, tmp_path):
    place = plugin_files.write(tmp_path / "probe.py", "while seen[0]: seen[1] += u64(1)")
    status, said = ask(helper, place)
    assert status == -signal.SIGVTALRM
    assert said[-1] == {"stage": TRYING}


def test_one_that_crashes(helper, tmp_path):
    before = "from vforward.jit.intrinsics import view"
    place = plugin_files.write(
        tmp_path / "probe.py", "view(i64(16), 1, np.uint64)[0] = u64(1)", before=before
    )
    assert ask(helper, place)[0] == -signal.SIGSEGV


def test_one_that_ends_the_process(helper, tmp_path):
    place = plugin_files.write(tmp_path / "probe.py", before="import os\nos._exit(5)")
    assert ask(helper, place) == (5, [{"stage": LOADING}])


def test_one_that_takes_too_long(tmp_path, monkeypatch):
    monkeypatch.setattr(plugin_helper, "WAIT_S", 0.01)
    answer = plugin_helper.run(json.dumps({"place": str(tmp_path)}), checked=True)
    assert answer["status"] is None


def test_it_is_started_again(tmp_path):
    helper = Helper()
    place = str(tmp_path / "none.py")
    assert ask(helper, place)[1][-1]["error"].endswith("No such file or directory")
    process = helper._process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert ask(helper, place)[1][-1]["error"].endswith("No such file or directory")
    assert helper._process is not process
    helper.close()


def test_closed_while_something_is_tried(tmp_path):
    """Who asked is told, and what was tried has ended."""
    helper, found = Helper(), []
    place = plugin_files.write(tmp_path / "probe.py", before="import time\ntime.sleep(1000)")

    def asks():
        try:
            helper.ask({"place": place}, checked=True)
        except VforwardError as error:
            found.append(str(error))

    thread = threading.Thread(target=asks)
    thread.start()
    end = time.monotonic() + 120
    while not _children(helper):
        assert time.monotonic() < end
        time.sleep(0.01)
    (child,) = _children(helper)
    helper.close()
    thread.join(60)
    assert found == ["the process that tries plug-ins has ended; try again"]
    while Path(f"/proc/{child}").exists() and "Z" not in _state(child):
        assert time.monotonic() < end
        time.sleep(0.01)
    with pytest.raises(VforwardError, match="being closed"):
        helper.ask({"place": place}, checked=True)


def _children(helper):
    if helper._process is None:
        return []
    pid = helper._process.pid
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []


def _state(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


def test_it_ends_with_whoever_started_it():
    helper = Helper()
    helper.start()
    process = helper._process
    process.stdin.close()
    end = time.monotonic() + 60
    while process.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert process.returncode == 0
    process.stdout.close()


def test_where_nothing_can_be_started(monkeypatch):
    def refused(*_, **__):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(plugin_helper.subprocess, "Popen", refused)
    with pytest.raises(VforwardError, match="none can be started: Operation not permitted"):
        Helper().ask({"place": "x"}, checked=True)
