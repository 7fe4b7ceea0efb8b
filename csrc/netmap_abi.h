/* SPDX-License-Identifier: Apache-2.0
 *
 * netmap's public interface as far as the preload library answers it: sizes, places and numbers that
 * programs were compiled with (API 11 to 15), written anew from netmap(4) and its documented layout.
 */
#ifndef VF_NETMAP_ABI_H
#define VF_NETMAP_ABI_H

#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>

#define NETMAP_DEVICE "/dev/netmap"
#define NETMAP_API_MIN 11  /* of NIOCREGIF */
#define NETMAP_API_CTRL 14 /* of NIOCCTRL: before that its bodies were others */
#define NETMAP_API_MAX 15

struct netmap_slot {
    uint32_t buf_idx;
    uint16_t len;
    uint16_t flags;
    uint64_t ptr;
};

#define NS_BUF_CHANGED 0x0001
#define NS_MOREFRAG 0x0020
#define NR_TIMESTAMP 0x0002

struct netmap_ring {
    int64_t buf_ofs;
    uint32_t num_slots;
    uint32_t nr_buf_size;
    uint16_t ringid;
    uint16_t dir; /* 0: tx, 1: rx */
    uint32_t head;
    uint32_t cur;
    uint32_t tail;
    uint32_t flags;
    uint32_t pad;
    int64_t ts_sec;
    int64_t ts_usec;
    uint64_t offset_mask;
    uint64_t buf_align;
    uint8_t pad2[56];
    uint8_t sem[128];
    struct netmap_slot slot[];
};

struct netmap_if {
    char ni_name[16];
    uint32_t ni_version;
    uint32_t ni_flags;
    uint32_t ni_tx_rings;
    uint32_t ni_rx_rings;
    uint32_t ni_bufs_head;
    uint32_t ni_host_tx_rings;
    uint32_t ni_host_rx_rings;
    uint32_t ni_spare1[3];
    int64_t ring_ofs[];
};

_Static_assert(sizeof(struct netmap_slot) == 16, "netmap_slot");
_Static_assert(sizeof(struct netmap_ring) == 256, "netmap_ring");
_Static_assert(offsetof(struct netmap_ring, sem) == 128, "netmap_ring.sem");
_Static_assert(offsetof(struct netmap_ring, head) == 20, "netmap_ring.head");
_Static_assert(sizeof(struct netmap_if) == 56, "netmap_if");

/* Requests of API 12 and later: ioctl(NIOCCTRL). */
struct nmreq_header {
    uint16_t nr_version;
    uint16_t nr_reqtype;
    uint32_t nr_reserved;
    char nr_name[64];
    uint64_t nr_options;
    uint64_t nr_body;
};

#define NETMAP_REQ_REGISTER 1
#define NETMAP_REQ_PORT_INFO_GET 2
#define NETMAP_REQ_PORT_HDR_SET 6
#define NETMAP_REQ_PORT_HDR_GET 7

struct nmreq_register {
    uint64_t nr_offset;
    uint64_t nr_memsize;
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_host_tx_rings;
    uint16_t nr_host_rx_rings;
    uint16_t nr_mem_id;
    uint16_t nr_ringid;
    uint32_t nr_mode;
    uint32_t nr_extra_bufs;
    uint64_t nr_flags;
};

struct nmreq_port_info_get {
    uint64_t nr_memsize;
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_host_tx_rings;
    uint16_t nr_host_rx_rings;
    uint16_t nr_mem_id;
    uint16_t pad[3];
};

struct nmreq_port_hdr {
    uint32_t nr_hdr_len;
    uint32_t pad;
};

#define NR_REG_ALL_NIC 1
#define NR_REG_ONE_NIC 4
#define NR_REG_PIPE_MASTER 5
#define NR_REG_PIPE_SLAVE 6
#define NR_MONITOR_TX 0x100
#define NR_MONITOR_RX 0x200
#define NR_ZCOPY_MON 0x400
#define NR_DO_RX_POLL 0x10000
#define NR_NO_TX_POLL 0x20000

/* Requests before that: ioctl(NIOCREGIF). */
struct nmreq {
    char nr_name[16];
    uint32_t nr_version;
    uint32_t nr_offset;
    uint32_t nr_memsize;
    uint32_t nr_tx_slots;
    uint32_t nr_rx_slots;
    uint16_t nr_tx_rings;
    uint16_t nr_rx_rings;
    uint16_t nr_ringid;
    uint16_t nr_cmd;
    uint16_t nr_arg1;
    uint16_t nr_arg2; /* memory */
    uint32_t nr_arg3; /* extra buffers */
    uint32_t nr_flags;
    uint32_t spare;
};

#define NR_REG_MASK 0xf
#define NETMAP_RING_MASK 0x0fff
#define NETMAP_NO_TX_POLL 0x1000
#define NETMAP_DO_RX_POLL 0x8000

_Static_assert(sizeof(struct nmreq_header) == 88, "nmreq_header");
_Static_assert(sizeof(struct nmreq_register) == 56, "nmreq_register");
_Static_assert(sizeof(struct nmreq) == 60, "nmreq");

#define NIOCCTRL _IOWR('i', 151, struct nmreq_header)
#define NIOCGINFO _IOWR('i', 145, struct nmreq)
#define NIOCREGIF _IOWR('i', 146, struct nmreq)
#define NIOCTXSYNC _IO('i', 148)
#define NIOCRXSYNC _IO('i', 149)

_Static_assert(NIOCCTRL == 0xc0586997, "NIOCCTRL");
_Static_assert(NIOCREGIF == 0xc03c6992, "NIOCREGIF");
_Static_assert(NIOCTXSYNC == 0x6994, "NIOCTXSYNC");
_Static_assert(NIOCRXSYNC == 0x6995, "NIOCRXSYNC");

#endif
