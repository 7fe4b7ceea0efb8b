/* SPDX-License-Identifier: Apache-2.0
 *
 * The XDP program that gives frames to AF_XDP sockets, and the map that it finds them in.
 *
 * Sources: bpf(2), linux/bpf.h, af_xdp.rst, xdp-rx-metadata.rst, and the instruction set of RFC 9669.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif

#include "vf_shim.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/bpf.h>
#include <linux/if_link.h>

/* Newer than the headers of Debian 12. */
#define XDP_DEV_BOUND_ONLY (1U << 6) /* BPF_F_XDP_DEV_BOUND_ONLY, Linux 6.3 */

static int64_t bpf(int command, union bpf_attr *attributes)
{
    long result = syscall(SYS_bpf, command, attributes, sizeof(*attributes));

    return result < 0 ? -(int64_t)errno : (int64_t)result;
}

int64_t vf_xsk_map(uint64_t queues)
{
    union bpf_attr attributes;

    memset(&attributes, 0, sizeof(attributes));
    attributes.map_type = BPF_MAP_TYPE_XSKMAP;
    attributes.key_size = sizeof(uint32_t);
    attributes.value_size = sizeof(uint32_t);
    attributes.max_entries = (uint32_t)queues;
    return bpf(BPF_MAP_CREATE, &attributes);
}

int64_t vf_xsk_map_set(int64_t map, uint64_t queue, int64_t socket)
{
    union bpf_attr attributes;
    uint32_t key = (uint32_t)queue, value = (uint32_t)socket;

    memset(&attributes, 0, sizeof(attributes));
    attributes.map_fd = (uint32_t)map;
    attributes.key = (uint64_t)(uintptr_t)&key;
    attributes.value = (uint64_t)(uintptr_t)&value;
    return bpf(BPF_MAP_UPDATE_ELEM, &attributes);
}

/* clang-format off */
#define OP(c, d, s, o, v) {.code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (v)}
#define MOVE(d, s)             OP(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define SET(d, v)              OP(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, v)
#define ADD(d, v)              OP(BPF_ALU64 | BPF_ADD | BPF_K, d, 0, 0, v)
#define LOAD(size, d, s, o)    OP(BPF_LDX | BPF_MEM | (size), d, s, o, 0)
#define STORE(size, d, o, s)   OP(BPF_STX | BPF_MEM | (size), d, s, o, 0)
#define CLEAR(d, o)            OP(BPF_ST | BPF_MEM | BPF_W, d, 0, o, 0)
#define TO_BIG16(d)            OP(BPF_ALU | BPF_END | BPF_TO_BE, d, 0, 0, 16)
#define CALL(helper)           OP(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define CALL_KERNEL(id)        OP(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_KFUNC_CALL, 0, id)
#define EXIT                   OP(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
#define IF_ZERO(d, o)          OP(BPF_JMP | BPF_JEQ | BPF_K, d, 0, o, 0)
#define IF_NOT_ZERO(d, o)      OP(BPF_JMP | BPF_JNE | BPF_K, d, 0, o, 0)
#define IF_ABOVE(d, s, o)      OP(BPF_JMP | BPF_JGT | BPF_X, d, s, o, 0)
#define MAP(d, fd)             OP(BPF_LD | BPF_DW | BPF_IMM, d, BPF_PSEUDO_MAP_FD, 0, fd), \
                               OP(0, 0, 0, 0, 0)
#define FIELD(name) ((int16_t)__builtin_offsetof(struct xdp_md, name))
#define FROM(at, to) ((to) - (at) - 1) /* a jump's distance, by instructions' numbers */
/* clang-format on */

#define R0 BPF_REG_0
#define R1 BPF_REG_1
#define R2 BPF_REG_2
#define R3 BPF_REG_3
#define R4 BPF_REG_4
#define R6 BPF_REG_6
#define STACK BPF_REG_10

static int64_t load(const struct bpf_insn *program, uint32_t n, int64_t ifindex, uint64_t flags)
{
    union bpf_attr attributes;

    memset(&attributes, 0, sizeof(attributes));
    attributes.prog_type = BPF_PROG_TYPE_XDP;
    attributes.expected_attach_type = BPF_XDP;
    attributes.insns = (uint64_t)(uintptr_t)program;
    attributes.insn_cnt = n;
    attributes.license = (uint64_t)(uintptr_t) "Dual BSD/GPL"; /* kernel functions ask for it */
    attributes.prog_flags = (uint32_t)flags;
    attributes.prog_ifindex = (uint32_t)ifindex;
    memcpy(attributes.prog_name, "vforward", sizeof("vforward"));
    return bpf(BPF_PROG_LOAD, &attributes);
}

int64_t vf_xdp_program(int64_t map, int64_t frags)
{
    /* return bpf_redirect_map(map, ctx->rx_queue_index, XDP_PASS) */
    const struct bpf_insn program[] = {
        LOAD(BPF_W, R2, R1, FIELD(rx_queue_index)),
        MAP(R1, (int32_t)map),
        SET(R3, XDP_PASS),
        CALL(BPF_FUNC_redirect_map),
        EXIT,
    };

    return load(program, sizeof(program) / sizeof(*program), 0, frags ? BPF_F_XDP_HAS_FRAGS : 0);
}

int64_t vf_xdp_program_tags(int64_t map, int64_t ifindex, int64_t function)
{
    /* The same. Before it, of what is redirected, a VLAN tag that was taken off is put back: MAC
     * addresses move four bytes forward. -4: the queue; -8: the tag's type, big-endian; -16: its TCI. */
    enum { REDIRECT = 38, PASS = 44, DROP = 46 };
    const struct bpf_insn program[] = {
        /* 0: what no socket waits for passes on as it is */
        MOVE(R6, R1),
        LOAD(BPF_W, R2, R6, FIELD(rx_queue_index)),
        STORE(BPF_W, STACK, -4, R2),
        MAP(R1, (int32_t)map),
        MOVE(R2, STACK),
        ADD(R2, -4),
        CALL(BPF_FUNC_map_lookup_elem),
        IF_ZERO(R0, FROM(8, PASS)),
        /* 9: function(ctx, &type, &tci): 0 if there is a tag */
        CLEAR(STACK, -8),
        CLEAR(STACK, -16),
        MOVE(R1, R6),
        MOVE(R2, STACK),
        ADD(R2, -8),
        MOVE(R3, STACK),
        ADD(R3, -16),
        CALL_KERNEL((int32_t)function),
        IF_NOT_ZERO(R0, FROM(17, REDIRECT)),
        /* 18: room */
        MOVE(R1, R6),
        SET(R2, -4),
        CALL(BPF_FUNC_xdp_adjust_head),
        IF_NOT_ZERO(R0, FROM(21, DROP)),
        LOAD(BPF_W, R2, R6, FIELD(data)),
        LOAD(BPF_W, R3, R6, FIELD(data_end)),
        MOVE(R4, R2),
        ADD(R4, 18),
        IF_ABOVE(R4, R3, FROM(26, DROP)),
        /* 27: the MAC addresses, then the tag */
        LOAD(BPF_W, R4, R2, 4),
        STORE(BPF_W, R2, 0, R4),
        LOAD(BPF_W, R4, R2, 8),
        STORE(BPF_W, R2, 4, R4),
        LOAD(BPF_W, R4, R2, 12),
        STORE(BPF_W, R2, 8, R4),
        LOAD(BPF_H, R4, STACK, -8),
        STORE(BPF_H, R2, 12, R4),
        LOAD(BPF_H, R4, STACK, -16),
        TO_BIG16(R4),
        STORE(BPF_H, R2, 14, R4),
        /* REDIRECT */
        LOAD(BPF_W, R2, R6, FIELD(rx_queue_index)),
        MAP(R1, (int32_t)map),
        SET(R3, XDP_PASS),
        CALL(BPF_FUNC_redirect_map),
        EXIT,
        /* PASS */
        SET(R0, XDP_PASS),
        EXIT,
        /* DROP */
        SET(R0, XDP_DROP),
        EXIT,
    };

    return load(program, sizeof(program) / sizeof(*program), ifindex,
                BPF_F_XDP_HAS_FRAGS | XDP_DEV_BOUND_ONLY);
}

int64_t vf_xdp_attach(int64_t program, int64_t ifindex, int64_t native)
{
    union bpf_attr attributes;

    memset(&attributes, 0, sizeof(attributes));
    attributes.link_create.prog_fd = (uint32_t)program;
    attributes.link_create.target_ifindex = (uint32_t)ifindex;
    attributes.link_create.attach_type = BPF_XDP;
    attributes.link_create.flags = native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
    return bpf(BPF_LINK_CREATE, &attributes);
}
