# SPDX-License-Identifier: Apache-2.0
"""deploy/: systemd takes the unit, which allows what the daemon needs; the Containerfile is one, of files
that there are.
"""

import configparser
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from vforward.io import seccomp

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "deploy/vforward@.service"
CONTAINER = ROOT / "deploy/Containerfile"
INSTRUCTIONS = {
    *("FROM", "RUN", "WORKDIR", "COPY", "ENV", "VOLUME", "STOPSIGNAL", "ENTRYPOINT", "CMD"),
}
ANALYZE = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="no systemd-analyze: apt-get install systemd"
)
TWO = {"CAP_NET_RAW", "CAP_NET_ADMIN"}


def analyze(*arguments):
    done = subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def settings(key):
    """All values of a key, in the unit's order."""
    return re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.M)


@ANALYZE
def test_systemd_takes_the_unit(tmp_path):
    """With programs that there are here in place of those that it names."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/vforward/bin/vforward", sys.executable))
    status, said = analyze("verify", "--man=no", str(unit))
    assert (status, said) == (0, "")


@ANALYZE
def test_the_unit_leaves_little_open():
    """2.8 by systemd's own account: the two capabilities, the network, and memory to compile into."""
    status, said = analyze("security", "--offline=true", "--threshold=30", str(UNIT))
    assert status == 0, said


def test_the_unit_has_no_more_than_two_capabilities():
    for key in ("AmbientCapabilities", "CapabilityBoundingSet"):
        (names,) = settings(key)
        assert set(names.split()) == TWO
    assert settings("NoNewPrivileges") == ["yes"]
    assert settings("RemoveIPC") == ["no"], "its memory is in /dev/shm"
    assert settings("MemoryDenyWriteExecute") == [], "it compiles"


def members(name, seen=()):
    """The calls of a set of systemd's."""
    status, said = analyze("syscall-filter", name)
    assert status == 0, said
    found = set()
    for word in (line.strip() for line in said.splitlines()[1:]):
        if word.startswith("@"):
            found |= members(word, (*seen, name))
        elif word and not word.startswith("#"):
            found.add(word)
    return found


def allowed_calls():
    """The system calls that the unit allows (systemd.exec(5), SystemCallFilter)."""
    allowed = set()
    for line in settings("SystemCallFilter"):
        words = line.lstrip("~").split()
        named = set().union(*(members(w) if w.startswith("@") else {w} for w in words))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return allowed


@ANALYZE
def test_the_unit_allows_what_gives_up_the_rest_and_nothing_that_is_refused_then():
    allowed = allowed_calls()
    assert allowed >= {"seccomp", "capset", "capget", "prctl", "tgkill", "clone", "execve"}
    assert allowed >= {"io_setup", "io_submit", "memfd_create", "mmap", "mprotect", "ppoll"}
    assert allowed >= {"sendmmsg", "recvmmsg", "socket", "ioctl", "sched_setaffinity", "flock"}
    beyond = {"bpf", "mount", "init_module", "reboot", "add_key", "perf_event_open", "chroot"}
    assert not allowed & beyond
    started = {"execve", "execveat", "setns", "unshare"}  # @process: it is started by one
    assert allowed & set(seccomp.REFUSED) <= started


def test_the_account_is_one_of_the_systems():
    lines = (ROOT / "deploy/vforward.sysusers.conf").read_text().splitlines()
    (line,) = (line for line in lines if line and not line.startswith("#"))
    kind, name, number, *_ = line.split()
    assert (kind, number) == ("u", "-"), "below 1000, by systemd-sysusers"
    assert [name] == settings("User") == settings("Group")


def instructions():
    """(instruction, its words) of the Containerfile."""
    lines = [line for line in CONTAINER.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [line.split(maxsplit=1) for line in text.splitlines() if line.strip()]


def test_the_containerfile_is_one_and_its_files_are_there():
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert found[0][0] == "FROM"
    stages = [words.split()[-1] for name, words in found if name == "FROM" and " AS " in words]
    for name, words in found:
        if name == "COPY":
            *sources, _ = words.split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in stages
            else:
                assert all((ROOT / source).exists() for source in sources), words
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert "'.[daemon]'" in dict(found)["RUN"] or any("'.[daemon]'" in words for _, words in found)
    assert "daemon" in project["optional-dependencies"]
    assert project["scripts"]["vforward"]
    copied = {s for name, words in found if name == "COPY" for s in words.split()[:-1]}
    assert set(project["license-files"]) <= copied


def test_each_run_of_the_containerfile_is_a_script():
    for name, words in instructions():
        if name == "RUN":
            done = subprocess.run(["sh", "-n", "-c", words], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_files_and_document_agree():
    text = (ROOT / "docs/operations.md").read_text()
    usage = [
        line.lstrip("# ").rstrip()
        for line in CONTAINER.read_text().splitlines()
        if line.startswith("#     ")
    ]
    assert usage
    for line in usage:
        assert line.strip() in text, line
    for file in (ROOT / "deploy").iterdir():
        assert file.name in text or file.name == "Containerfile"


@pytest.mark.parametrize(
    "file", [CONTAINER, ROOT / "docs/operations.md"], ids=lambda path: path.name
)
def test_a_container_is_run_with_no_more_than_two_capabilities(file):
    runs = re.findall(r"^[# ]*((?:podman|docker) run(?:.*\\\n)*.*)$", file.read_text(), re.M)
    assert runs
    for run in runs:
        words = run.split()
        assert "--cap-drop=all" in words, run
        added = [word for word in words if word.startswith(("--cap-add", "--privileged"))]
        assert added == ["--cap-add=NET_RAW,NET_ADMIN"], run


def test_the_unit_is_of_plain_sections():
    parser = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
    parser.optionxform = str
    parser.read_string(UNIT.read_text())
    assert parser.sections() == ["Unit", "Service", "Install"]
