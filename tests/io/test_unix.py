"""Unix sockets at long paths."""

import contextlib
import socket

import pytest

from vforward.io import unix


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_a_path_of_any_length(tmp_path, kind):
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    path = directory / "a.sock"
    with unix.listen(path, kind) as listener, unix.connect(path, kind) as one:
        other, _ = listener.accept()
        with other:
            one.send(b"hello")
            assert other.recv(9) == b"hello"
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        unix.connect(tmp_path / "none" / "a.sock")
    with pytest.raises(FileNotFoundError):
        unix.connect(tmp_path / "a.sock")
    unix.listen(tmp_path / "a.sock").close()
    with pytest.raises(ConnectionRefusedError):
        unix.connect(tmp_path / "a.sock")
    with pytest.raises(OSError, match="in use"):
        unix.listen(tmp_path / "a.sock")


@pytest.mark.parametrize("kind", [socket.SOCK_SEQPACKET, socket.SOCK_STREAM])
def test_who_does_not_wait_hears_that_the_listener_is_busy(tmp_path, kind):
    path = tmp_path / "a.sock"
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(unix.listen(path, kind, backlog=0))
        waiting = stack.enter_context(unix.connect(path, kind, wait=False))
        assert waiting.getblocking()
        with pytest.raises(BlockingIOError):
            unix.connect(path, kind, wait=False)
        stack.enter_context(listener.accept()[0])
        stack.enter_context(unix.connect(path, kind, wait=False))
    with pytest.raises(ConnectionRefusedError):
        unix.connect(path, kind, wait=False)
