"""Unix sockets at long paths."""

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
