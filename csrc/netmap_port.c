/* SPDX-License-Identifier: Apache-2.0
 *
 * Opening a netmap port at the server, and the ioctls that do it: what netmap's kernel module answers
 * for pipes and VALE ports. What it has besides (monitors, host rings, other memory) is refused.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "netmap_port.h"

enum { PAGE = 4096 };

static int fail(int error)
{
    errno = error;
    return -1;
}

/* close and mmap by number: the library's own names for them are interposed. */
static void close_fd(int fd)
{
    if (fd >= 0)
        syscall(SYS_close, fd);
}

static void *map(int fd, uint64_t size)
{
    long where =
        syscall(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)0);

    return where == -1 ? NULL : (void *)where;
}

struct port *port_connect(bool close_on_exec)
{
    const char *path = getenv("VFORWARD_NETMAP");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct port *port;

    if (!path || strlen(path) >= sizeof(address.sun_path)) {
        errno = ENOENT;
        return NULL;
    }
    strcpy(address.sun_path, path);
    port = calloc(1, sizeof(*port));
    if (!port)
        return NULL;
    pthread_mutex_init(&port->lock, NULL);
    port->memfd = port->bell = -1;
    port->fd = socket(AF_UNIX, SOCK_SEQPACKET | (close_on_exec ? SOCK_CLOEXEC : 0), 0);
    if (port->fd < 0 || TEMP_FAILURE_RETRY(connect(port->fd, (struct sockaddr *)&address,
                                                   sizeof(address))) < 0) {
        int error = errno;

        close_fd(port->fd);
        free(port);
        errno = error == ECONNREFUSED ? ENOENT : error;
        return NULL;
    }
    return port;
}

void port_free(struct port *port)
{
    if (port->base)
        syscall(SYS_munmap, port->base, port->reply.size);
    close_fd(port->memfd);
    close_fd(port->bell);
    free(port);
}

/*
 * One request, one reply with VF_DESCRIPTORS descriptors or none. Returns how many, or -1.
 * A signal does not end it: the reply would be taken for the next one's.
 */
static int ask(struct port *port, const struct vf_request *request, struct vf_reply *reply, int *fds)
{
    union {
        struct cmsghdr header;
        char room[CMSG_SPACE(VF_DESCRIPTORS * sizeof(int))];
    } control;
    struct iovec piece = {reply, sizeof(*reply)};
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof(control)};
    struct cmsghdr *part;
    ssize_t done;
    int n = 0;

    done = TEMP_FAILURE_RETRY(send(port->fd, request, sizeof(*request), MSG_NOSIGNAL));
    if (done != (ssize_t)sizeof(*request))
        return fail(ENXIO);
    done = TEMP_FAILURE_RETRY(recvmsg(port->fd, &message, MSG_CMSG_CLOEXEC));
    if (done != (ssize_t)sizeof(*reply))
        return fail(ENXIO);
    part = CMSG_FIRSTHDR(&message);
    if (part && part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_RIGHTS) {
        n = (int)((part->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(fds, CMSG_DATA(part), (size_t)n * sizeof(int));
    }
    return reply->error ? fail(reply->error) : n;
}

static void fill(struct vf_request *request, uint32_t kind, const char *name)
{
    memset(request, 0, sizeof(*request));
    request->magic = VF_MAGIC;
    request->version = VF_VERSION;
    request->kind = kind;
    memcpy(request->name, name, strnlen(name, sizeof(request->name) - 1));
}

int port_info(struct port *port, const char *name, struct vf_reply *reply)
{
    struct vf_request request;
    int fds[VF_DESCRIPTORS];

    fill(&request, VF_INFO, name);
    return ask(port, &request, reply, fds) < 0 ? -1 : 0;
}

/* Where the buffers begin: the region ends with them. (A ring's own word of it is anybody's.) */
static uint64_t bufs_at(const struct vf_reply *reply)
{
    uint64_t bytes = (uint64_t)reply->bufs * reply->buf_size;

    return reply->size - (bytes + PAGE - 1) / PAGE * PAGE;
}

static void place(struct port *port, int which, uint64_t ring, uint64_t peer, uint64_t link,
                  uint32_t n)
{
    port->krings[which] = (struct kring){
        .ring = (struct netmap_ring *)(port->base + ring),
        .peer = (struct netmap_ring *)(port->base + peer),
        .link = port->base + link,
        .data = port->base + bufs_at(&port->reply),
        .n = n,
        .bufs = port->reply.bufs,
        .buf_size = port->reply.buf_size,
    };
}

int port_register(struct port *port, const char *name, uint32_t tx_slots, uint32_t rx_slots,
                  uint32_t extra)
{
    struct vf_request request;
    int fds[VF_DESCRIPTORS], n;
    struct vf_reply *reply = &port->reply;

    if (port->registered)
        return fail(EBUSY);
    fill(&request, VF_REGISTER, name);
    request.tx_slots = tx_slots;
    request.rx_slots = rx_slots;
    request.extra = extra;
    n = ask(port, &request, reply, fds);
    if (n < 0)
        return -1;
    if (n != VF_DESCRIPTORS) {
        while (n > 0)
            close_fd(fds[--n]);
        return fail(EPROTO);
    }
    port->memfd = fds[0];
    port->bell = fds[1];
    port->base = map(port->memfd, reply->size);
    if (!port->base)
        return -1;
    place(port, TX, reply->tx, reply->tx_peer, reply->tx_link, reply->tx_slots);
    place(port, RX, reply->rx, reply->rx_peer, reply->rx_link, reply->rx_slots);
    port_begin(port);
    port->registered = true;
    return 0;
}

/* A name as the server knows it: "x{1" of "x" with mode NR_REG_PIPE_MASTER and number 1. */
static int full_name(char *to, size_t size, const char *name, uint32_t mode, uint32_t number)
{
    int n;

    switch (mode) {
    case NR_REG_PIPE_MASTER:
    case NR_REG_PIPE_SLAVE:
        if (strpbrk(name, "{}"))
            break;
        n = snprintf(to, size, "%s%c%u", name, mode == NR_REG_PIPE_MASTER ? '{' : '}', number);
        return n < (int)size ? 0 : fail(EINVAL);
    case NR_REG_ONE_NIC:
        if (number != 0)
            return fail(EINVAL);
        break;
    case 0:
    case NR_REG_ALL_NIC:
        break;
    default:
        return fail(EOPNOTSUPP);
    }
    n = snprintf(to, size, "%s", name);
    return n < (int)size ? 0 : fail(EINVAL);
}

static int ask_register(struct port *port, const char *name, struct nmreq_register *body)
{
    char full[VF_NAME];

    if (body->nr_flags & (NR_MONITOR_TX | NR_MONITOR_RX | NR_ZCOPY_MON))
        return fail(EOPNOTSUPP);
    if (full_name(full, sizeof(full), name, body->nr_mode, body->nr_ringid) < 0)
        return -1;
    if (port_register(port, full, body->nr_tx_slots, body->nr_rx_slots, body->nr_extra_bufs) < 0)
        return -1;
    port->no_tx_poll = body->nr_flags & NR_NO_TX_POLL;
    port->do_rx_poll = body->nr_flags & NR_DO_RX_POLL;
    body->nr_offset = port->reply.nifp;
    body->nr_memsize = port->reply.size;
    body->nr_tx_slots = port->reply.tx_slots;
    body->nr_rx_slots = port->reply.rx_slots;
    body->nr_tx_rings = body->nr_rx_rings = 1;
    body->nr_host_tx_rings = body->nr_host_rx_rings = 0;
    body->nr_mem_id = (uint16_t)port->reply.mem_id;
    body->nr_extra_bufs = port->reply.extra;
    return 0;
}

static int ask_info(struct port *port, const char *name, struct nmreq_port_info_get *body)
{
    struct vf_reply reply;

    if (port_info(port, name, &reply) < 0)
        return -1;
    body->nr_memsize = reply.size;
    body->nr_tx_slots = reply.tx_slots;
    body->nr_rx_slots = reply.rx_slots;
    body->nr_tx_rings = body->nr_rx_rings = 1;
    body->nr_host_tx_rings = body->nr_host_rx_rings = 0;
    body->nr_mem_id = (uint16_t)reply.mem_id;
    return 0;
}

static int control(struct port *port, struct nmreq_header *header)
{
    char name[sizeof(header->nr_name) + 1] = "";
    void *body = (void *)(uintptr_t)header->nr_body;
    uint16_t version = header->nr_version;

    header->nr_version = NETMAP_API_MAX;
    if (version < NETMAP_API_CTRL || version > NETMAP_API_MAX)
        return fail(EINVAL);
    header->nr_version = version;
    if (header->nr_options)
        return fail(EOPNOTSUPP);
    memcpy(name, header->nr_name, sizeof(header->nr_name));
    if (!body)
        return fail(EINVAL);
    switch (header->nr_reqtype) {
    case NETMAP_REQ_REGISTER:
        return ask_register(port, name, body);
    case NETMAP_REQ_PORT_INFO_GET:
        return ask_info(port, name, body);
    case NETMAP_REQ_PORT_HDR_GET: /* no port of ours has a virtio-net header */
        ((struct nmreq_port_hdr *)body)->nr_hdr_len = 0;
        return 0;
    case NETMAP_REQ_PORT_HDR_SET:
        return ((struct nmreq_port_hdr *)body)->nr_hdr_len ? fail(EOPNOTSUPP) : 0;
    default:
        return fail(EOPNOTSUPP);
    }
}

/* NIOCREGIF and NIOCGINFO, by way of what they are called today. */
static int legacy(struct port *port, struct nmreq *old, bool attach)
{
    char name[sizeof(old->nr_name) + 1] = "";
    struct nmreq_register body = {
        .nr_tx_slots = old->nr_tx_slots,
        .nr_rx_slots = old->nr_rx_slots,
        .nr_mode = old->nr_flags & NR_REG_MASK,
        .nr_ringid = old->nr_ringid & NETMAP_RING_MASK,
        .nr_extra_bufs = old->nr_arg3,
        .nr_flags = old->nr_flags & ~(uint32_t)NR_REG_MASK,
    };
    struct nmreq_port_info_get info = {0};

    if (old->nr_version < NETMAP_API_MIN || old->nr_version > NETMAP_API_MAX) {
        old->nr_version = NETMAP_API_MAX;
        return fail(EINVAL);
    }
    if (old->nr_cmd)
        return fail(EOPNOTSUPP);
    memcpy(name, old->nr_name, sizeof(old->nr_name));
    if (attach) {
        if (old->nr_ringid & NETMAP_NO_TX_POLL)
            body.nr_flags |= NR_NO_TX_POLL;
        if (old->nr_ringid & NETMAP_DO_RX_POLL)
            body.nr_flags |= NR_DO_RX_POLL;
        if (ask_register(port, name, &body) < 0)
            return -1;
        old->nr_offset = (uint32_t)body.nr_offset;
        old->nr_arg3 = body.nr_extra_bufs;
        info.nr_memsize = body.nr_memsize;
        info.nr_tx_slots = body.nr_tx_slots;
        info.nr_rx_slots = body.nr_rx_slots;
        info.nr_mem_id = body.nr_mem_id;
    } else if (ask_info(port, name, &info) < 0) {
        return -1;
    }
    old->nr_memsize = (uint32_t)info.nr_memsize;
    old->nr_tx_slots = info.nr_tx_slots;
    old->nr_rx_slots = info.nr_rx_slots;
    old->nr_tx_rings = old->nr_rx_rings = 1;
    old->nr_arg2 = info.nr_mem_id;
    return 0;
}

int port_ioctl(struct port *port, unsigned long request, void *argument)
{
    switch (request) {
    case NIOCTXSYNC:
    case NIOCRXSYNC:
        return port->registered ? port_sync(port, request == NIOCTXSYNC ? TX : RX) : fail(ENXIO);
    case NIOCCTRL:
        return argument ? control(port, argument) : fail(EFAULT);
    case NIOCREGIF:
    case NIOCGINFO:
        return argument ? legacy(port, argument, request == NIOCREGIF) : fail(EFAULT);
    default:
        return fail(ENOTTY);
    }
}
