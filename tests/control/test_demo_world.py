"""The parts of the demo: hosts, frames, processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from oracles import ip4
from vforward.control import demo_world as world
from vforward.testing.namespaces import available, namespaces, veth


def test_a_routed_frame_is_what_the_oracle_makes_of_it():
    for number in (0, 1, 255, 256, 9999):
        frame = world.from_h1(number)
        assert world.routed(number)[14:] == ip4.decrement_ttl(frame[14:])
        assert frame[:12] + world.routed(number)[:12] == bytes.fromhex(
            "020000000002020000000001020000000004020000000003"
        )


def test_an_answer_is_the_question_turned_round():
    question, answer = world.echo(), world.echo(reply=True)
    assert question[:6] + question[6:12] == answer[6:12] + answer[:6]
    assert question[26:30] + question[30:34] == answer[30:34] + answer[26:30]
    assert (question[34], answer[34]) == (8, 0)
    assert question[38:] == answer[38:]


@pytest.mark.root
def test_a_transfer_is_hashed_at_both_ends():
    with namespaces("one", "other") as (one, other):
        veth(one, "eth0", other, "eth0")
        one.address("eth0", "10.2.0.1/24")
        other.address("eth0", f"{world.H2}/24")
        sent, came, seconds = world.transfer(one, other, 3)
        assert sent == came
        assert seconds > 0


@pytest.mark.root
def test_processes_of_a_namespace_are_found():
    with namespaces("one") as (one,):
        kept = [world.identity(one)]
        with subprocess.Popen(one.command("sleep", "60")) as other:
            other_gone = [one.pid]
            try:
                while len(found := world.processes_in(kept)) < 2:
                    pass
                assert sorted(found) == sorted([one.pid, other.pid])
            finally:
                other.kill()
        assert world.processes_in(kept) == other_gone
    assert world.processes_in(kept) == []


@pytest.mark.root
def test_what_may_be_done_here():
    assert world.may_use_interfaces() == available()
    command = world.user_namespace()
    assert command == [] or subprocess.run([*command, "true"], check=False).returncode == 0


def test_a_process_ends_with_its_parent():
    program = (
        "import subprocess, sys, os, signal\n"
        "from vforward.control.demo_world import end_with_parent\n"
        "child = subprocess.Popen(['sleep', '60'], preexec_fn=end_with_parent)\n"
        "print(child.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    try:
        while Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":  # nobody may reap it here
            pass
    except (FileNotFoundError, ProcessLookupError):
        return


def test_end_ends_what_ignores_sigterm(monkeypatch):
    monkeypatch.setattr(world, "STOP_S", 0.1)
    program = "import signal; signal.signal(15, signal.SIG_IGN); print(); signal.pause()"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        world.end(process)
        assert process.returncode == -signal.SIGKILL
        world.end(process)


def test_waiting_for_the_start(tmp_path):
    log = tmp_path / "log"
    log.write_text("compiling: 1 of 2, node\n")
    with (
        subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as process,
        pytest.raises(world.Failed, match="exit status 3"),
    ):
        world.await_start(process, log)
    log.write_text("compiling: 1 of 2, node\nforwarding: 2 ports\n")
    world.await_start(process, log)


def test_the_command_is_this_vforward():
    done = subprocess.run(
        world.vforward("--version"), capture_output=True, text=True, check=True, env=os.environ
    )
    assert done.stdout.startswith("vforward ")
