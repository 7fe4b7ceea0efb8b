# SPDX-License-Identifier: Apache-2.0
""".ci/run fails where a peer that could be installed is missing; .ci/guest updates package lists.

make, apt-get and the like are scripts here that write down how they were called.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

CI = Path(__file__).resolve().parents[1] / ".ci"
PEERS = ["dpdk-testpmd", "qemu-system-x86_64", "cc"]
STRICT = "-o APT::Update::Error-Mode=any"
TARGETS = ["make venv", "make check", "make test", "make gate"]


class Checkout:
    """One with .ci alone, and a directory of programs."""

    def __init__(self, root):
        self.root, self.bin, self.log = root, root / "bin", root / "log"
        shutil.copytree(CI, root / ".ci")
        self.bin.mkdir()

    def write(self, where, script=""):
        path = self.root / where
        path.parent.mkdir(parents=True, exist_ok=True)
        called = f'echo "$(basename "$0")" "$@" >> {self.log}'
        path.write_text(f"#!/bin/bash\nPATH=/usr/bin:/bin\n{called}\n{script}\n")
        path.chmod(0o755)

    def run(self, script, path):
        done = subprocess.run(
            [self.root / ".ci" / script],
            env={"PATH": path},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        return done.returncode, done.stderr, self.log.read_text().splitlines()


@pytest.fixture
def checkout(tmp_path):
    made = Checkout(tmp_path)
    for program in ("bash", "dirname"):
        (made.bin / program).symlink_to(shutil.which(program))
    for program in ("make", *PEERS):
        made.write(f"bin/{program}")
    made.write(".ci/setup", "echo setup: no network >&2")
    made.write("build/guest/ready")
    return made


def test_all_is_there(checkout):
    assert checkout.run("run", checkout.bin) == (0, "", TARGETS)


@pytest.mark.parametrize("what", [f"bin/{peer}" for peer in PEERS] + ["build/guest/ready"])
@pytest.mark.parametrize("archive", ["none", "lacks it", "has it"])
def test_a_peer_is_missing(checkout, what, archive):
    (checkout.root / what).unlink()
    checkout.write("bin/id", "echo 0")
    checkout.write("bin/apt-get", "exit 100" if archive == "none" else "")
    if archive == "has it":
        checkout.write(
            ".ci/setup", f"touch {checkout.root / what}; chmod +x {checkout.root / what}"
        )
    status, errors, called = checkout.run("run", checkout.bin)
    asked = ["id -u", f"apt-get update -qq {STRICT}"] if archive != "has it" else []
    assert called == [TARGETS[0], "setup", *asked, *TARGETS[1:]]
    assert status == (1 if archive == "lacks it" else 0)
    name = what.removeprefix("bin/").removesuffix("/ready")
    assert (f"ci: FAILED: no {name} " in errors) == (archive == "lacks it")
    assert (f"ci: WITHOUT {name}, whose tests are skipped" in errors) == (archive == "none")
    assert ("setup: no network" in errors) == (archive != "has it")


@pytest.mark.parametrize("target", ["venv", "check", "test", "gate"])
def test_a_target_fails(checkout, target):
    checkout.write("bin/make", f'[ "$1" != {target} ]')
    assert checkout.run("run", checkout.bin) == (1, f"ci: FAILED: make {target}\n", TARGETS)


NAMES = "linux-image-6.1.0-9-cloud-amd64 linux-image-6.1.0-10-cloud-amd64"
DOWNLOAD = "apt-get download -qq linux-image-6.1.0-10-cloud-amd64 busybox-static"


@pytest.mark.parametrize("wrong", ["", "old lists", "no lists", "no network"])
def test_the_kernel_of_virtual_machines(checkout, wrong):
    """The newest of Debian's; old or missing package lists are updated, once; failures say what failed."""
    updated = checkout.root / "updated"
    listed = f"for name in {NAMES}; do echo $name - Linux; done"
    checkout.write(
        "bin/apt-cache", f"[ -e {updated} ] && {listed}" if wrong == "no lists" else listed
    )
    get = f"""
    if [ "$1" = update ]; then
        touch {updated}
    elif [ -e {updated} ] || [ "{wrong}" = "" ]; then
        touch kernel.deb busybox.deb
    else
        echo 'E: 404 Not Found' >&2
        exit 100
    fi
    """
    checkout.write(
        "bin/apt-get", "echo E: unreachable >&2; exit 100" if wrong == "no network" else get
    )
    checkout.write("bin/dpkg")
    guest = checkout.root / "build" / "guest"
    (guest / "ready").unlink()
    status, errors, called = checkout.run("guest", f"{checkout.bin}:/usr/bin:/bin")
    got = [line for line in called if line.startswith("apt-get")]
    first = [] if wrong == "no lists" else [DOWNLOAD]
    if wrong == "no network":
        assert (status != 0, "E: unreachable" in errors) == (True, True)
        assert got == [DOWNLOAD, "apt-get update -qq"]
        assert not (guest / "ready").exists()
        return
    assert status == 0
    assert got == (first if wrong == "" else [*first, "apt-get update -qq", DOWNLOAD])
    assert ("404" in errors) == (wrong == "old lists")
    assert [line for line in called if line.startswith("dpkg")] == [
        f"dpkg -x build/guest/{name}.deb build/guest" for name in ("busybox", "kernel")
    ]
    assert [path.name for path in guest.iterdir()] == ["ready"]
