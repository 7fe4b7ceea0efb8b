/* SPDX-License-Identifier: Apache-2.0 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sendmmsg, recvmmsg, ppoll */
#endif

#include "vf_shim.h"

#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <net/if.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <linux/virtio_net.h>

/* Newer than the headers of Debian 12. */
#ifndef VIRTIO_NET_HDR_GSO_UDP_L4
#define VIRTIO_NET_HDR_GSO_UDP_L4 5
#endif
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

/* clang-format off */
#define SIZE(s) {"sizeof(" #s ")", (int64_t)sizeof(struct s)}
#define OFFSET(s, f) {"offsetof(" #s ", " #f ")", (int64_t)offsetof(struct s, f)}
#define VALUE(c) {#c, (int64_t)(c)}

const struct vf_constant vf_constants[] = {
    SIZE(iovec), OFFSET(iovec, iov_base), OFFSET(iovec, iov_len),
    SIZE(msghdr), OFFSET(msghdr, msg_name), OFFSET(msghdr, msg_namelen),
    OFFSET(msghdr, msg_iov), OFFSET(msghdr, msg_iovlen), OFFSET(msghdr, msg_control),
    OFFSET(msghdr, msg_controllen), OFFSET(msghdr, msg_flags),
    SIZE(mmsghdr), OFFSET(mmsghdr, msg_hdr), OFFSET(mmsghdr, msg_len),
    SIZE(cmsghdr), OFFSET(cmsghdr, cmsg_len), OFFSET(cmsghdr, cmsg_level), OFFSET(cmsghdr, cmsg_type),
    SIZE(pollfd), OFFSET(pollfd, fd), OFFSET(pollfd, events), OFFSET(pollfd, revents),
    SIZE(sockaddr_ll), OFFSET(sockaddr_ll, sll_family), OFFSET(sockaddr_ll, sll_protocol),
    OFFSET(sockaddr_ll, sll_ifindex), OFFSET(sockaddr_ll, sll_hatype),
    OFFSET(sockaddr_ll, sll_pkttype), OFFSET(sockaddr_ll, sll_halen),
    OFFSET(sockaddr_ll, sll_addr),
    SIZE(tpacket2_hdr), OFFSET(tpacket2_hdr, tp_status), OFFSET(tpacket2_hdr, tp_len),
    OFFSET(tpacket2_hdr, tp_snaplen), OFFSET(tpacket2_hdr, tp_mac), OFFSET(tpacket2_hdr, tp_net),
    OFFSET(tpacket2_hdr, tp_sec), OFFSET(tpacket2_hdr, tp_nsec),
    OFFSET(tpacket2_hdr, tp_vlan_tci), OFFSET(tpacket2_hdr, tp_vlan_tpid),
    SIZE(tpacket_auxdata), OFFSET(tpacket_auxdata, tp_status), OFFSET(tpacket_auxdata, tp_len),
    OFFSET(tpacket_auxdata, tp_snaplen), OFFSET(tpacket_auxdata, tp_mac),
    OFFSET(tpacket_auxdata, tp_net), OFFSET(tpacket_auxdata, tp_vlan_tci),
    OFFSET(tpacket_auxdata, tp_vlan_tpid),
    SIZE(virtio_net_hdr), OFFSET(virtio_net_hdr, flags), OFFSET(virtio_net_hdr, gso_type),
    OFFSET(virtio_net_hdr, hdr_len), OFFSET(virtio_net_hdr, gso_size),
    OFFSET(virtio_net_hdr, csum_start), OFFSET(virtio_net_hdr, csum_offset),

    VALUE(TP_STATUS_KERNEL), VALUE(TP_STATUS_USER), VALUE(TP_STATUS_COPY),
    VALUE(TP_STATUS_LOSING), VALUE(TP_STATUS_CSUMNOTREADY), VALUE(TP_STATUS_VLAN_VALID),
    VALUE(TP_STATUS_VLAN_TPID_VALID), VALUE(TP_STATUS_CSUM_VALID), VALUE(TPACKET_ALIGNMENT),
    VALUE(VIRTIO_NET_HDR_F_NEEDS_CSUM), VALUE(VIRTIO_NET_HDR_F_DATA_VALID),
    VALUE(VIRTIO_NET_HDR_GSO_NONE), VALUE(VIRTIO_NET_HDR_GSO_TCPV4),
    VALUE(VIRTIO_NET_HDR_GSO_UDP), VALUE(VIRTIO_NET_HDR_GSO_TCPV6),
    VALUE(VIRTIO_NET_HDR_GSO_UDP_L4), VALUE(VIRTIO_NET_HDR_GSO_ECN),
    VALUE(POLLIN), VALUE(POLLOUT), VALUE(POLLERR), VALUE(POLLHUP), VALUE(POLLNVAL),
    VALUE(MSG_DONTWAIT), VALUE(MSG_TRUNC), VALUE(MSG_NOSIGNAL), VALUE(SOL_PACKET), VALUE(PACKET_AUXDATA),
    VALUE(ETH_P_ALL), VALUE(IFNAMSIZ),

    VALUE(TUNSETIFF), VALUE(TUNSETOFFLOAD), VALUE(IFF_TAP), VALUE(IFF_MULTI_QUEUE),
    VALUE(IFF_NO_PI), VALUE(IFF_VNET_HDR),
    VALUE(TUN_F_CSUM), VALUE(TUN_F_TSO4), VALUE(TUN_F_TSO6), VALUE(TUN_F_TSO_ECN),
    VALUE(TUN_F_USO4), VALUE(TUN_F_USO6),

    VALUE(NLM_F_REQUEST), VALUE(NLM_F_ACK), VALUE(NLM_F_REPLACE), VALUE(NLM_F_EXCL),
    VALUE(NLM_F_CREATE), VALUE(NLMSG_ERROR), VALUE(RTM_NEWLINK), VALUE(RTM_GETLINK),
    VALUE(IFLA_STATS64), VALUE(IFLA_QDISC), VALUE(IFLA_NUM_TX_QUEUES), VALUE(IFLA_NUM_RX_QUEUES),
    VALUE(RTM_NEWADDR), VALUE(RTM_DELADDR), VALUE(RTM_NEWROUTE), VALUE(RTM_DELROUTE), VALUE(RTM_NEWRULE),
    VALUE(RTM_DELRULE), VALUE(IFF_UP), VALUE(IFLA_ADDRESS), VALUE(IFLA_IFNAME), VALUE(IFLA_MTU),
    VALUE(IFA_ADDRESS),
    VALUE(IFA_LOCAL), VALUE(IFA_FLAGS), VALUE(IFA_F_NODAD), VALUE(RTA_OIF), VALUE(RTA_TABLE),
    VALUE(RTPROT_STATIC), VALUE(RT_SCOPE_LINK), VALUE(RTN_UNICAST), VALUE(FRA_SRC),
    VALUE(FRA_PRIORITY), VALUE(FRA_TABLE), VALUE(FRA_PROTOCOL), VALUE(FR_ACT_TO_TBL),
    {NULL, 0},
};
/* clang-format on */

static int64_t result(int64_t value)
{
    return value < 0 ? -(int64_t)errno : value;
}

int64_t vf_sendmmsg(int64_t fd, void *msgs, uint64_t n, int64_t flags)
{
    return result(sendmmsg((int)fd, msgs, (unsigned int)n, (int)flags));
}

int64_t vf_recvmmsg(int64_t fd, void *msgs, uint64_t n, int64_t flags)
{
    return result(recvmmsg((int)fd, msgs, (unsigned int)n, (int)flags, NULL));
}

int64_t vf_writev_each(int64_t fd, const void *msgs, uint64_t n, int64_t flags)
{
    const struct mmsghdr *messages = msgs;

    (void)flags;
    for (uint64_t i = 0; i < n; i++) {
        const struct msghdr *message = &messages[i].msg_hdr;

        if (writev((int)fd, message->msg_iov, (int)message->msg_iovlen) < 0)
            return i ? (int64_t)i : -(int64_t)errno;
    }
    return (int64_t)n;
}

int64_t vf_readv(int64_t fd, const void *iov, uint64_t n)
{
    return result(readv((int)fd, iov, (int)n));
}

int64_t vf_ppoll(void *pollfds, uint64_t n, int64_t timeout_ns)
{
    struct timespec timeout = {timeout_ns / 1000000000, timeout_ns % 1000000000};

    return result(ppoll(pollfds, n, timeout_ns < 0 ? NULL : &timeout, NULL));
}

int64_t vf_write(int64_t fd, const void *buf, uint64_t n)
{
    const char *bytes = buf;
    uint64_t done = 0;

    while (done < n) {
        ssize_t wrote = write((int)fd, bytes + done, n - done);

        if (wrote < 0) {
            if (errno == EINTR)
                continue;
            return -(int64_t)errno;
        }
        if (wrote == 0) /* no file of ours does this; never spin on one that does */
            return -EIO;
        done += (uint64_t)wrote;
    }
    return (int64_t)done;
}

static int64_t set_packet_option(int64_t fd, int option, int value)
{
    return result(setsockopt((int)fd, SOL_PACKET, option, &value, sizeof(value)));
}

int64_t vf_packet_socket(int64_t protocol)
{
    int type = SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK;

    return result(socket(AF_PACKET, type, htons((uint16_t)protocol)));
}

int64_t vf_packet_version2(int64_t fd)
{
    return set_packet_option(fd, PACKET_VERSION, TPACKET_V2);
}

int64_t vf_packet_vnet_hdr(int64_t fd)
{
    return set_packet_option(fd, PACKET_VNET_HDR, 1);
}

int64_t vf_packet_ignore_outgoing(int64_t fd)
{
    return set_packet_option(fd, PACKET_IGNORE_OUTGOING, 1);
}

int64_t vf_packet_rx_ring(int64_t fd, uint64_t block_size, uint64_t n_blocks, uint64_t frame_size,
                          uint64_t n_frames)
{
    struct tpacket_req request = {
        .tp_block_size = (unsigned int)block_size,
        .tp_block_nr = (unsigned int)n_blocks,
        .tp_frame_size = (unsigned int)frame_size,
        .tp_frame_nr = (unsigned int)n_frames,
    };

    return result(setsockopt((int)fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof(request)));
}

int64_t vf_packet_bind(int64_t fd, int64_t ifindex, int64_t protocol)
{
    struct sockaddr_ll address = {
        .sll_family = AF_PACKET,
        .sll_protocol = htons((uint16_t)protocol),
        .sll_ifindex = (int)ifindex,
    };

    return result(bind((int)fd, (struct sockaddr *)&address, sizeof(address)));
}

int64_t vf_packet_promisc(int64_t fd, int64_t ifindex)
{
    struct packet_mreq request = {.mr_ifindex = (int)ifindex, .mr_type = PACKET_MR_PROMISC};

    return result(
        setsockopt((int)fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &request, sizeof(request)));
}

int64_t vf_packet_statistics(int64_t fd, uint64_t *packets_drops_out)
{
    struct tpacket_stats stats;
    socklen_t size = sizeof(stats);

    if (getsockopt((int)fd, SOL_PACKET, PACKET_STATISTICS, &stats, &size) < 0)
        return -(int64_t)errno;
    packets_drops_out[0] = stats.tp_packets;
    packets_drops_out[1] = stats.tp_drops;
    return 0;
}

int64_t vf_mmap_shared(int64_t fd, uint64_t size, uint64_t *address_out)
{
    void *address = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, (int)fd, 0);

    if (address == MAP_FAILED)
        return -(int64_t)errno;
    *address_out = (uint64_t)(uintptr_t)address;
    return 0;
}

int64_t vf_munmap(uint64_t address, uint64_t size)
{
    return result(munmap((void *)(uintptr_t)address, size));
}
