"""How far something is: a bar, or lines."""

import io
import sys

from vforward.control import progress_bar


class Terminal(io.StringIO):
    """A terminal, as far as rich can tell."""

    def isatty(self):
        return True


def test_the_bar_is_for_terminals(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar.Bar("compiling") as bar:
        bar.report(3, 40, "ip4-input")
        bar.report(4, 40, "ip4-lookup")
        bar.close()
    assert "4/40" in sys.stderr.getvalue()


def test_without_a_terminal_a_line_a_second(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress_bar.time, "monotonic", lambda: now[0])
    with progress_bar.Bar("compiling") as bar:
        for step, seconds in enumerate((0.5, 0.9, 1.1, 1.5, 2.2)):
            now[0] = seconds
            bar.report(step, 40, "ip4-input")
    text = capsys.readouterr().err
    assert text == "compiling: 2 of 40, ip4-input\ncompiling: 4 of 40, ip4-input\n"
