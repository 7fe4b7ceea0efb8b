# SPDX-License-Identifier: Apache-2.0
"""A VLAN device: eth0's frames with one tag are an interface of their own, whose stack is Linux's.

In plain Python, as the kernel here may have no 802.1Q devices: a TAP, and a packet socket on eth0, both
with virtio_net_hdr, so that super-frames and checksums to be completed pass as they are. linux/if_tun.h,
packet(7).
"""

import contextlib
import fcntl
import os
import select
import socket
import struct
import threading
import time

from e2e.lab import mac_of
from vforward.io import linux

IGNORE_OUTGOING, VNET_HDR = 23, 15
SNDBUFFORCE, RCVBUFFORCE = 32, 33
VNET = struct.Struct("=BBHHHH")  # flags, gso type, hdr_len, gso_size, csum_start, csum_offset
NEEDS_CSUM = 1
TAG, MACS = 4, 12
LONGEST = 1 << 17
OFFLOADS = linux.TUN_F_CSUM | linux.TUN_F_TSO4 | linux.TUN_F_TSO6


def moved_by(header, n):
    """A virtio_net_hdr for a frame whose headers begin n bytes later."""
    flags, kind, length, size, start, offset = VNET.unpack(header)
    if flags & NEEDS_CSUM:
        start += n
    if kind:
        length += n
    return VNET.pack(flags, kind, length, size, start, offset)


class VlanDevice:
    """What the two ends' loop needs. super_frames: how many went through, to the network and back."""

    def __init__(self, host, vid, name):
        self.tag = struct.pack("!HH", 0x8100, vid)
        self.super_frames = [0, 0]
        with host.inside():
            self.tap = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            flags = linux.IFF_TAP | linux.IFF_NO_PI | linux.IFF_VNET_HDR
            fcntl.ioctl(self.tap, linux.TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
            fcntl.ioctl(self.tap, linux.TUNSETOFFLOAD, OFFLOADS)
            self.wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        for option in (IGNORE_OUTGOING, linux.PACKET_AUXDATA, VNET_HDR):
            self.wire.setsockopt(linux.SOL_PACKET, option, 1)
        for option in (SNDBUFFORCE, RCVBUFFORCE):
            self.wire.setsockopt(socket.SOL_SOCKET, option, 1 << 25)
        self.wire.bind(("eth0", 3))
        self.stop = os.eventfd(0)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        poller = select.poll()
        for descriptor in (self.tap, self.wire.fileno(), self.stop):
            poller.register(descriptor, select.POLLIN)
        while self.stop not in (ready := dict(poller.poll())):
            if self.tap in ready:
                self.send()
            if self.wire.fileno() in ready:
                self.receive()

    def send(self):
        data = os.read(self.tap, LONGEST)
        header, frame = data[: VNET.size], data[VNET.size :]
        self.super_frames[0] += header[1] != 0
        frame = frame[:MACS] + self.tag + frame[MACS:]
        self.wire.send(moved_by(header, TAG) + frame)

    def receive(self):
        data, aside, _, _ = self.wire.recvmsg(LONGEST, socket.CMSG_SPACE(20))
        header, frame = data[: VNET.size], data[VNET.size :]
        tag = b""
        for level, kind, value in aside:
            if (level, kind) == (linux.SOL_PACKET, linux.PACKET_AUXDATA):
                status, *_, tci, tpid = struct.unpack("IIIHHHH", value)
                if status & linux.TP_STATUS_VLAN_VALID:
                    tag = struct.pack("!HH", tpid, tci)
        if not tag:  # it was left where it was
            tag, frame = frame[MACS : MACS + TAG], frame[:MACS] + frame[MACS + TAG :]
            header = moved_by(header, -TAG)
        if tag == self.tag:
            self.super_frames[1] += header[1] != 0
            self.write(header + frame)

    def write(self, data):
        while True:
            try:
                os.write(self.tap, data)
            except BlockingIOError:
                time.sleep(0.001)
            else:
                return

    def close(self):
        os.eventfd_write(self.stop, 1)
        self.thread.join()
        self.wire.close()
        os.close(self.tap)
        os.close(self.stop)


@contextlib.contextmanager
def vlan_device(host, vid, name):
    """The interface of that name is eth0's VLAN; it is up, with eth0's MAC."""
    made = VlanDevice(host, vid, name)
    try:
        host.run("ip", "link", "set", "dev", name, "address", mac_of(host))
        host.run("ip", "link", "set", "dev", name, "up")
        yield made
    finally:
        made.close()
