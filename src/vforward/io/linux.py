# SPDX-License-Identifier: Apache-2.0
"""The Linux structs and constants that ports share with the kernel, for kernels to use as data.

Plain numbers, so that nothing here needs the shim; tests/io/test_linux.py holds every one of
them against the C headers. x86-64 and arm64 agree on all of them.

Sources: packet_mmap.rst, linux/if_packet.h, linux/virtio_net.h, linux/if_tun.h, rtnetlink(7),
linux/fib_rules.h, poll(2), recv(2).
"""

import numpy as np

U16, I16, U32, I32, U64 = np.uint16, np.int16, np.uint32, np.int32, np.uint64

# One piece of memory, for scatter and gather.
IOVEC = np.dtype([("iov_base", U64), ("iov_len", U64)])

MSGHDR = np.dtype(
    [
        ("msg_name", U64),
        ("msg_namelen", U32),
        ("msg_iov", U64),
        ("msg_iovlen", U64),
        ("msg_control", U64),
        ("msg_controllen", U64),
        ("msg_flags", I32),
    ],
    align=True,
)

# The kernel stores in msg_len how many bytes went or came.
MMSGHDR = np.dtype([("msg_hdr", MSGHDR), ("msg_len", U32)], align=True)

# Before what is told aside of a message (cmsg(3)); its bytes follow.
CMSGHDR = np.dtype([("cmsg_len", U64), ("cmsg_level", I32), ("cmsg_type", I32)])

POLLFD = np.dtype([("fd", I32), ("events", I16), ("revents", I16)])

# sll_protocol is in network byte order.
SOCKADDR_LL = np.dtype(
    [
        ("sll_family", U16),
        ("sll_protocol", U16),
        ("sll_ifindex", I32),
        ("sll_hatype", U16),
        ("sll_pkttype", np.uint8),
        ("sll_halen", np.uint8),
        ("sll_addr", np.uint8, 8),
    ]
)

# At the start of every frame of a version 2 ring. tp_mac counts from here to the Ethernet header,
# before which lies the VIRTIO_NET_HDR if there is one.
TPACKET2_HDR = np.dtype(
    [
        ("tp_status", U32),
        ("tp_len", U32),
        ("tp_snaplen", U32),
        ("tp_mac", U16),
        ("tp_net", U16),
        ("tp_sec", U32),
        ("tp_nsec", U32),
        ("tp_vlan_tci", U16),
        ("tp_vlan_tpid", U16),
        ("padding", np.uint8, 4),
    ]
)

# What the kernel tells aside of a frame that was not received by a ring (PACKET_AUXDATA).
TPACKET_AUXDATA = np.dtype(
    [
        ("tp_status", U32),
        ("tp_len", U32),
        ("tp_snaplen", U32),
        ("tp_mac", U16),
        ("tp_net", U16),
        ("tp_vlan_tci", U16),
        ("tp_vlan_tpid", U16),
    ]
)

# Little-endian by the virtio standard, or rather the host's order on a legacy socket.
VIRTIO_NET_HDR = np.dtype(
    [
        ("flags", np.uint8),
        ("gso_type", np.uint8),
        ("hdr_len", U16),
        ("gso_size", U16),
        ("csum_start", U16),
        ("csum_offset", U16),
    ]
)

# Bits of tp_status. Test TP_STATUS_USER as a bit: the others share the word with it.
TP_STATUS_KERNEL = 0
TP_STATUS_USER = 1
TP_STATUS_COPY = 1 << 1
TP_STATUS_LOSING = 1 << 2
TP_STATUS_CSUMNOTREADY = 1 << 3
TP_STATUS_VLAN_VALID = 1 << 4
TP_STATUS_VLAN_TPID_VALID = 1 << 6
TP_STATUS_CSUM_VALID = 1 << 7
TPACKET_ALIGNMENT = 16

VIRTIO_NET_HDR_F_NEEDS_CSUM = 1
VIRTIO_NET_HDR_F_DATA_VALID = 2
VIRTIO_NET_HDR_GSO_NONE = 0
VIRTIO_NET_HDR_GSO_TCPV4 = 1
VIRTIO_NET_HDR_GSO_UDP = 3
VIRTIO_NET_HDR_GSO_TCPV6 = 4
VIRTIO_NET_HDR_GSO_UDP_L4 = 5
VIRTIO_NET_HDR_GSO_ECN = 0x80

POLLIN = 0x01
POLLOUT = 0x04
POLLERR = 0x08
POLLHUP = 0x10
POLLNVAL = 0x20

MSG_DONTWAIT, MSG_TRUNC, MSG_NOSIGNAL = 0x40, 0x20, 0x4000
SOL_PACKET = 263
PACKET_AUXDATA = 8
ETH_P_ALL = 0x0003
IFNAMSIZ = 16

TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x0100, 0x1000, 0x4000
TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN = 0x01, 0x02, 0x04, 0x08
TUN_F_USO4, TUN_F_USO6 = 0x20, 0x40  # from Linux 6.2 on

NLM_F_REQUEST, NLM_F_ACK = 0x01, 0x04
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400
NLMSG_ERROR = 2
RTM_NEWLINK, RTM_GETLINK, RTM_NEWADDR, RTM_DELADDR = 16, 18, 20, 21
RTM_NEWROUTE, RTM_DELROUTE, RTM_NEWRULE, RTM_DELRULE = 24, 25, 32, 33
IFF_UP = 1
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_QDISC, IFLA_STATS64 = 1, 3, 4, 6, 23
IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES = 31, 32
IFA_ADDRESS, IFA_LOCAL, IFA_FLAGS = 1, 2, 8
IFA_F_NODAD = 0x02
RTA_OIF, RTA_TABLE = 4, 15
RTPROT_STATIC, RT_SCOPE_LINK, RTN_UNICAST = 4, 253, 1
FRA_SRC, FRA_PRIORITY, FRA_TABLE, FRA_PROTOCOL, FR_ACT_TO_TBL = 2, 6, 15, 21, 1
