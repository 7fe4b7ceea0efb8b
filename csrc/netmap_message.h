/* SPDX-License-Identifier: Apache-2.0
 *
 * What a program and the netmap server say to each other: as in
 * src/vforward/rings/netmap_message.py, which explains it. A test compares the two.
 */
#ifndef VF_NETMAP_MESSAGE_H
#define VF_NETMAP_MESSAGE_H

#include <stdint.h>

#define VF_MAGIC 0x4D4E4656u
#define VF_VERSION 2
#define VF_REGISTER 1
#define VF_INFO 2
#define VF_PIPE 1
#define VF_VALE 2
#define VF_DESCRIPTORS 2
#define VF_NAME 64

struct vf_request {
    uint32_t magic;
    uint32_t version;
    uint32_t kind;
    uint32_t flags;
    uint32_t tx_slots;
    uint32_t rx_slots;
    uint32_t extra;
    uint32_t spare;
    char name[VF_NAME];
};

/* Places are bytes from the region's beginning. */
struct vf_reply {
    int32_t error;
    uint32_t kind;
    uint64_t size;
    uint64_t nifp;
    uint64_t tx;
    uint64_t rx;
    uint64_t tx_peer;
    uint64_t rx_peer;
    uint64_t tx_link;
    uint64_t rx_link;
    uint32_t bufs;
    uint32_t buf_size;
    uint32_t tx_slots;
    uint32_t rx_slots;
    uint32_t extra;
    uint32_t mem_id;
};

_Static_assert(sizeof(struct vf_request) == 96, "a request as Python packs it");
_Static_assert(sizeof(struct vf_reply) == 96, "a reply as Python packs it");

#endif
