# SPDX-License-Identifier: Apache-2.0
"""The process in which a plug-in is compiled and tried: whatever it does there, no packet is lost.

Run by control.plugin_helper, twice: with the bounds of all arrays checked the kernel is tried on
packets; as it will run it is compiled, so that the forwarder finds that in the cache.

    stdin    {"place": FILE or entry point}
    stdout   a line for each stage that is begun, {"stage": ...}, and at the end {"error": "" or why}
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from typing import Any, TextIO

from vforward.control import plugin_trial, plugin_words
from vforward.control.plugin_helper import COMPILING, CPU_S, LOADING, TRYING
from vforward.control.plugin_source import Source, load
from vforward.errors import VforwardError
from vforward.io import capabilities, seccomp, shim
from vforward.jit import entries
from vforward.jit.kernel import BOUNDSCHECK
from vforward.jit.sources import python_function


def main() -> None:
    """Check what is asked on stdin; say what came of it on stdout, which is nobody else's."""
    said = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the plug-in prints is no answer
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _confine()
    error = check(json.loads(sys.stdin.buffer.read()), said)
    say(said, error=error)
    os._exit(0)  # no hook of the plug-in's


def _confine() -> None:
    """Give up all privileges, and starting programs, where that can be: the helper still may."""
    if shim.built():
        with contextlib.suppress(VforwardError):
            capabilities.drop(())
            seccomp.install()


def say(said: TextIO, **what: Any) -> None:
    """Write a line of the answer."""
    said.write(json.dumps(what) + "\n")
    said.flush()


def check(request: dict[str, Any], said: TextIO) -> str:
    """What is wrong with the plug-in; empty: nothing."""
    file = request["place"]
    try:
        say(said, stage=LOADING)
        source = load(request["place"])
        file = python_function(source.plugin.node.kernel).__code__.co_filename
        say(said, stage=COMPILING)
        plugin_words.refuse_statements(source.plugin.node.kernel)
        if BOUNDSCHECK:
            _try(source, said)
        else:
            entries.build(source.plugin.node.name, source.plugin.node.kernel)
    except VforwardError as error:
        return plugin_words.explain(str(error), file)
    return ""


def _try(source: Source, said: TextIO) -> None:
    plugin = source.plugin
    plugin_trial.begin_some(plugin)
    trial = plugin_trial.Trial(plugin)
    plugin_words.tried(plugin.node, trial.compile, compiles=True)
    say(said, stage=TRYING)
    # A kernel that does not return hears no handler of Python's: the signal itself has to end it.
    signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
    plugin_words.tried(plugin.node, lambda: plugin_trial.standard(trial))
    if plugin.check is not None:
        fresh = plugin_trial.Trial(plugin)
        plugin_words.tried(plugin.node, lambda: plugin.check and plugin.check(fresh))
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)


if __name__ == "__main__":
    main()
