# SPDX-License-Identifier: Apache-2.0
"""Every function of the shim, on the real kernel."""

import ctypes
import errno
import os
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from vforward.errors import ShimMissing
from vforward.io import linux, shim

NO_FD = 1 << 20  # above any limit on open files here, so never open


def messages(rows, msg):
    """One mmsghdr per row of the u8 array, and the iovecs it points to (keep both)."""
    iov = np.zeros(len(rows), linux.IOVEC)
    iov["iov_base"] = rows.ctypes.data + rows.strides[0] * np.arange(len(rows), dtype=np.uint64)
    iov["iov_len"] = msg
    msgs = np.zeros(len(rows), linux.MMSGHDR)
    msgs["msg_hdr"]["msg_iov"] = iov.ctypes.data + iov.itemsize * np.arange(
        len(rows), dtype=np.uint64
    )
    msgs["msg_hdr"]["msg_iovlen"] = 1
    return msgs, iov


@pytest.fixture
def sockets():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        yield left, right


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)
    os.close(writer)


def memfd(size):
    fd = os.memfd_create("vforward-test")
    os.truncate(fd, size)
    return fd


def test_sendmmsg_and_recvmmsg_move_whole_vectors(sockets):
    left, right = sockets
    out = np.arange(5 * 64, dtype=np.uint8).reshape(5, 64)
    lengths = np.array([1, 14, 60, 63, 64])
    msgs, _iov = messages(out, lengths)
    assert shim.lib.vf_sendmmsg(left.fileno(), shim.pointer(msgs), 5, 0) == 5
    assert msgs["msg_len"].tolist() == lengths.tolist()

    back = np.zeros((8, 64), np.uint8)
    msgs, _iov = messages(back, 64)
    n = shim.lib.vf_recvmmsg(right.fileno(), shim.pointer(msgs), 8, linux.MSG_DONTWAIT)

    assert n == 5
    assert msgs["msg_len"][:5].tolist() == lengths.tolist()
    for i, length in enumerate(lengths):
        assert back[i, :length].tolist() == out[i, :length].tolist()
        assert not back[i, length:].any()
    assert not back[5:].any()
    n = shim.lib.vf_recvmmsg(right.fileno(), shim.pointer(msgs), 8, linux.MSG_DONTWAIT)
    assert n == -errno.EAGAIN


def test_writev_each_and_readv_move_whole_frames(sockets):
    left, right = sockets
    out = np.arange(5 * 64, dtype=np.uint8).reshape(5, 64)
    lengths = np.array([1, 14, 60, 63, 64])
    msgs, iov = messages(out, lengths)
    assert shim.lib.vf_writev_each(left.fileno(), shim.pointer(msgs), 5, 0) == 5
    back = np.zeros((2, 40), np.uint8)
    iov["iov_base"][:2] = back[0].ctypes.data, back[1].ctypes.data
    iov["iov_len"][:2] = 40
    right.setblocking(False)
    for i, length in enumerate(lengths):
        assert shim.lib.vf_readv(right.fileno(), shim.pointer(iov), 2) == length
        assert back.ravel()[:length].tolist() == out[i, :length].tolist()
    assert shim.lib.vf_readv(right.fileno(), shim.pointer(iov), 2) == -errno.EAGAIN


def test_writev_each_stops_at_the_first_that_fails(sockets):
    left, _ = sockets
    msgs, _iov = messages(np.zeros((3, 64), np.uint8), 64)
    msgs["msg_hdr"]["msg_iov"][1] = 8  # no memory of ours
    assert shim.lib.vf_writev_each(left.fileno(), shim.pointer(msgs), 3, 0) == 1
    assert shim.lib.vf_writev_each(left.fileno(), shim.pointer(msgs[1:].copy()), 2, 0) == (
        -errno.EFAULT
    )


def test_sendmmsg_stops_at_a_full_socket(sockets):
    left, _right = sockets
    rows = np.zeros((1024, 64), np.uint8)
    msgs, _iov = messages(rows, 64)
    left.setblocking(False)
    sent = shim.lib.vf_sendmmsg(left.fileno(), shim.pointer(msgs), 1024, 0)
    assert 0 < sent < 1024
    assert shim.lib.vf_sendmmsg(left.fileno(), shim.pointer(msgs), 1, 0) == -errno.EAGAIN


def test_functions_can_be_called_by_address(sockets):
    left, right = sockets
    call = ctypes.CFUNCTYPE(
        ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_int64
    )(shim.address("vf_sendmmsg"))
    rows = np.full((1, 64), 7, np.uint8)
    msgs, _iov = messages(rows, 64)
    assert call(left.fileno(), msgs.ctypes.data, 1, 0) == 1
    assert right.recv(100) == bytes([7] * 64)
    assert call(NO_FD, msgs.ctypes.data, 1, 0) == -errno.EBADF


def test_ppoll_times_out(pipe):
    reader, _writer = pipe
    polled = np.array([(reader, linux.POLLIN, 0)], linux.POLLFD)
    start = time.monotonic_ns()
    assert shim.lib.vf_ppoll(shim.pointer(polled), 1, 20_000_000) == 0
    assert 20_000_000 <= time.monotonic_ns() - start < 5_000_000_000


@pytest.mark.parametrize("timeout_ns", [0, 1_500_000_000, -1])
def test_ppoll_sees_what_is_ready(pipe, timeout_ns):
    reader, writer = pipe
    polled = np.array([(reader, linux.POLLIN, 0), (NO_FD, linux.POLLIN, 0)], linux.POLLFD)
    os.write(writer, b"x")
    assert shim.lib.vf_ppoll(shim.pointer(polled), 2, timeout_ns) == 2
    assert polled["revents"].tolist() == [linux.POLLIN, linux.POLLNVAL]


@pytest.mark.parametrize("size", [0, 1, 4096, 65536])
def test_write_writes_exact_bytes(pipe, size):
    reader, writer = pipe
    data = bytes(i % 251 for i in range(size))
    assert shim.lib.vf_write(writer, shim.pointer(data), size) == size
    os.set_blocking(reader, False)
    if size:
        assert os.read(reader, size + 1) == data
    else:
        with pytest.raises(BlockingIOError):
            os.read(reader, 1)


def test_write_says_when_it_would_block(pipe):
    _reader, writer = pipe
    os.set_blocking(writer, False)
    data = bytes(1 << 20)  # the pipe holds 64 KB, so the first write is short
    assert shim.lib.vf_write(writer, shim.pointer(data), len(data)) == -errno.EAGAIN


def test_mapping_is_shared_with_the_file():
    size = 1 << 21
    fd = memfd(size)
    address = np.zeros(1, np.uint64)
    assert shim.lib.vf_mmap_shared(fd, size, shim.pointer(address)) == 0
    at = int(address[0])
    ctypes.memmove(at + size - 3, b"end", 3)
    assert os.pread(fd, 10, size - 3) == b"end"
    assert shim.lib.vf_munmap(at, size) == 0
    assert shim.lib.vf_munmap(at + 1, size) == -errno.EINVAL
    os.close(fd)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("vf_sendmmsg", [0, 0]),
        ("vf_recvmmsg", [0, 0]),
        ("vf_write", [1]),
        ("vf_packet_rx_ring", [4096, 1, 256, 16]),
        ("vf_packet_bind", [1, linux.ETH_P_ALL]),
        ("vf_packet_promisc", [1]),
        ("vf_packet_version2", []),
        ("vf_packet_vnet_hdr", []),
        ("vf_packet_ignore_outgoing", []),
        ("vf_packet_statistics", []),
        ("vf_mmap_shared", [4096]),
    ],
)
def test_a_bad_descriptor_is_ebadf(name, arguments):
    words = shim.pointer(np.zeros(64, np.uint64))
    if name in {"vf_sendmmsg", "vf_recvmmsg", "vf_write"}:
        arguments = [words, *arguments]
    elif name in {"vf_packet_statistics", "vf_mmap_shared"}:
        arguments = [*arguments, words]
    assert getattr(shim.lib, name)(NO_FD, *arguments) == -errno.EBADF


def test_check_passes_results_and_raises_errors():
    assert shim.check(0, "nothing") == 0
    assert shim.check(17, "nothing") == 17
    with pytest.raises(OSError, match="bind to eth0: Bad file descriptor") as caught:
        shim.check(-errno.EBADF, "bind to eth0")
    assert caught.value.errno == errno.EBADF
    with pytest.raises(PermissionError):
        shim.check(-errno.EPERM, "packet socket")


def test_a_missing_shim_is_reported_on_use_with_its_fix(monkeypatch):
    monkeypatch.setitem(sys.modules, "vforward.io._shim", None)
    shim._module.cache_clear()
    try:
        with pytest.raises(ShimMissing, match=r"pip install \. in the checkout; .* C compiler"):
            shim.lib.vf_packet_socket(0)
    finally:
        shim._module.cache_clear()


@pytest.mark.root
def test_packet_ring_on_loopback_sees_its_own_frame():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)  # it is down in a fresh namespace
    lo = socket.if_nametoindex("lo")
    fd = shim.check(shim.lib.vf_packet_socket(0), "packet socket")
    ring_bytes, frame_bytes = 1 << 16, 1 << 12
    shim.check(shim.lib.vf_packet_version2(fd), "version 2")
    shim.check(shim.lib.vf_packet_vnet_hdr(fd), "vnet_hdr")
    shim.check(shim.lib.vf_packet_ignore_outgoing(fd), "ignore_outgoing")
    shim.check(
        shim.lib.vf_packet_rx_ring(fd, ring_bytes, 1, frame_bytes, ring_bytes // frame_bytes),
        "ring",
    )
    assert shim.lib.vf_packet_version2(fd) == -errno.EBUSY
    address = np.zeros(1, np.uint64)
    shim.check(shim.lib.vf_mmap_shared(fd, ring_bytes, shim.pointer(address)), "map")
    raw = (ctypes.c_uint8 * ring_bytes).from_address(int(address[0]))
    ring = np.frombuffer(raw, np.uint8).reshape(-1, frame_bytes)
    private = 0x88B5  # IEEE 802 local experimental EtherType 1: nobody else sends it
    shim.check(shim.lib.vf_packet_bind(fd, lo, private), "bind")
    shim.check(shim.lib.vf_packet_promisc(fd, lo), "promisc")

    out = shim.check(shim.lib.vf_packet_socket(0), "packet socket")
    shim.check(shim.lib.vf_packet_bind(out, lo, 0), "bind")
    frame = bytes(12) + private.to_bytes(2, "big") + bytes(range(46))
    os.write(out, frame)
    polled = np.array([(fd, linux.POLLIN, 0)], linux.POLLFD)
    assert shim.lib.vf_ppoll(shim.pointer(polled), 1, 5_000_000_000) == 1

    header = ring[0, : linux.TPACKET2_HDR.itemsize].view(linux.TPACKET2_HDR)[0]
    assert header["tp_status"] & linux.TP_STATUS_USER
    assert header["tp_len"] == header["tp_snaplen"] == len(frame)
    mac = int(header["tp_mac"])
    assert ring[0, mac : mac + len(frame)].tobytes() == frame
    counts = np.zeros(2, np.uint64)
    assert shim.lib.vf_packet_statistics(fd, shim.pointer(counts)) == 0
    assert counts.tolist() == [1, 0]
    assert shim.lib.vf_packet_statistics(fd, shim.pointer(counts)) == 0
    assert counts.tolist() == [0, 0]
    shim.check(shim.lib.vf_munmap(int(address[0]), ring_bytes), "unmap")
    os.close(out)
    os.close(fd)
