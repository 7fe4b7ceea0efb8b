/* SPDX-License-Identifier: Apache-2.0
 *
 * A netmap program as they are: it opens /dev/netmap, registers, maps, polls, and sends or receives
 * numbered 60-byte frames, as pkt-gen does. It knows nothing of vforward.
 *
 *     netmap_program [-l] [-p] tx|parts|bad|extra|rx|both|echo|swap|info NAME COUNT
 *
 * -l: NIOCREGIF instead of NIOCCTRL. -p: ppoll instead of poll.
 *
 * tx prints what it sent, rx what it received and how many were as they should be and in order; both
 * does as rx while another thread waits for room to send; echo sends back what it gets, swap does so by
 * exchanging buffers. parts: as tx, and three slots are a frame. bad: before it does as tx it breaks the
 * rules of rings and prints what it is told. extra: asks for COUNT extra buffers, and sends each of the
 * list in a slot, whose own buffer takes its place there. info prints what there is to know of a port
 * before it is registered. SIGUSR1 interrupts it. Status 0: all done.
 */
#define _GNU_SOURCE /* ppoll */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "netmap_abi.h"

#define SIZE 60

static struct netmap_if *nifp;
static struct netmap_ring *tx, *rx;
static uint32_t extra; /* buffers: asked for, then granted */
static int fd;

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    exit(2);
}

static uint32_t next_slot(const struct netmap_ring *ring, uint32_t slot)
{
    return slot + 1 == ring->num_slots ? 0 : slot + 1;
}

static char *bytes_of(struct netmap_ring *ring, uint32_t buf)
{
    return (char *)ring + ring->buf_ofs + (size_t)buf * ring->nr_buf_size;
}

static char *buffer(struct netmap_ring *ring, uint32_t slot)
{
    return bytes_of(ring, ring->slot[slot].buf_idx);
}

static void open_device(void)
{
    fd = open("/dev/netmap", O_RDWR);
    if (fd < 0)
        die("/dev/netmap");
}

static void ask(const char *name, uint16_t what, void *body)
{
    struct nmreq_header header = {.nr_version = 14, .nr_reqtype = what};

    strncpy(header.nr_name, name, sizeof(header.nr_name) - 1);
    header.nr_body = (uintptr_t)body;
    if (ioctl(fd, NIOCCTRL, &header) < 0)
        die(name);
}

static void print_info(const char *name, int legacy)
{
    struct nmreq_port_info_get info = {0};
    struct nmreq old = {.nr_version = 11};

    if (legacy) {
        strncpy(old.nr_name, name, sizeof(old.nr_name) - 1);
        if (ioctl(fd, NIOCGINFO, &old) < 0)
            die(name);
        info.nr_memsize = old.nr_memsize;
        info.nr_tx_slots = old.nr_tx_slots;
        info.nr_rx_slots = old.nr_rx_slots;
        info.nr_tx_rings = old.nr_tx_rings;
        info.nr_rx_rings = old.nr_rx_rings;
        info.nr_mem_id = old.nr_arg2;
    } else {
        ask(name, NETMAP_REQ_PORT_INFO_GET, &info);
    }
    printf("%llu %u %u %u %u %u\n", (unsigned long long)info.nr_memsize, info.nr_tx_slots,
           info.nr_rx_slots, info.nr_tx_rings, info.nr_rx_rings, info.nr_mem_id);
}

static void open_port(const char *name, int legacy)
{
    struct nmreq_register body = {.nr_mode = NR_REG_ALL_NIC, .nr_extra_bufs = extra};
    struct nmreq old = {.nr_version = 11, .nr_flags = NR_REG_ALL_NIC, .nr_arg3 = extra};
    char *memory, *brace;

    if (legacy) {
        strncpy(old.nr_name, name, sizeof(old.nr_name) - 1);
        brace = strpbrk(old.nr_name, "{}");
        if (brace) { /* as nm_open does: a number and a mode */
            old.nr_flags = *brace == '{' ? NR_REG_PIPE_MASTER : NR_REG_PIPE_SLAVE;
            old.nr_ringid = (uint16_t)atoi(brace + 1);
            *brace = 0;
        }
        if (ioctl(fd, NIOCREGIF, &old) < 0)
            die(name);
        body.nr_memsize = old.nr_memsize;
        body.nr_offset = old.nr_offset;
        body.nr_extra_bufs = old.nr_arg3;
    } else {
        ask(name, NETMAP_REQ_REGISTER, &body);
    }
    extra = body.nr_extra_bufs;
    memory = mmap(NULL, body.nr_memsize, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        die("mmap");
    nifp = (struct netmap_if *)(memory + body.nr_offset);
    tx = (struct netmap_ring *)((char *)nifp + nifp->ring_ofs[0]);
    rx = (struct netmap_ring *)((char *)nifp
                                + nifp->ring_ofs[nifp->ni_tx_rings + nifp->ni_host_tx_rings]);
    if (tx->dir != 0 || rx->dir != 1 || nifp->ring_ofs[1] != 0)
        die("rings");
}

/* The number is not known when this is compiled: so both become what checks it, with _FORTIFY_SOURCE. */
static volatile nfds_t n_ports = 1;
static int by_ppoll;

static void wait_for(short events)
{
    struct pollfd one = {.fd = fd, .events = events};
    struct timespec limit = {.tv_sec = 30};
    int found = by_ppoll ? ppoll(&one, n_ports, &limit, NULL) : poll(&one, n_ports, 30000);

    if (found <= 0 || !(one.revents & events))
        die("poll");
}

static void frame(char *to, uint64_t number)
{
    memset(to, (int)(number & 0xff), SIZE);
    memset(to, 0xff, 6);
    memcpy(to + 6, "\x02\0\0\0\0\x01", 6);
    memcpy(to + 14, &number, sizeof(number));
}

/* Until the other side has taken all but so many slots, a frame's whose last slot is not there. */
static void until_taken(uint32_t begun)
{
    uint32_t whole = (tx->head + tx->num_slots - begun) % tx->num_slots;

    while (next_slot(tx, tx->tail) != whole) {
        if (ioctl(fd, NIOCTXSYNC, NULL) < 0)
            die("NIOCTXSYNC");
        usleep(100);
    }
}

static void send_all(uint64_t count, unsigned parts)
{
    uint64_t sent = 0;

    while (sent < count) {
        uint32_t head = tx->head;

        if (head == tx->tail) {
            wait_for(POLLOUT);
            continue;
        }
        for (int burst = 0; burst < 256 && head != tx->tail && sent < count; burst++) {
            frame(buffer(tx, head), sent++);
            tx->slot[head].len = SIZE;
            tx->slot[head].flags = sent % parts ? NS_MOREFRAG : 0;
            head = next_slot(tx, head);
        }
        tx->head = tx->cur = head;
        if (ioctl(fd, NIOCTXSYNC, NULL) < 0)
            die("NIOCTXSYNC");
    }
    until_taken((uint32_t)(sent % parts));
    printf("%llu\n", (unsigned long long)sent);
}

/* Each buffer of the list changes places with a slot's. */
static void send_extra(void)
{
    uint32_t *link = &nifp->ni_bufs_head, head = tx->head, walked = 0;

    while (*link) {
        struct netmap_slot *slot = &tx->slot[head];
        uint32_t mine = *link, after = *(uint32_t *)(void *)bytes_of(tx, mine);

        *link = slot->buf_idx;
        link = (uint32_t *)(void *)buffer(tx, head);
        *link = after;
        slot->buf_idx = mine;
        slot->len = SIZE;
        slot->flags = NS_BUF_CHANGED;
        frame(buffer(tx, head), walked++);
        head = next_slot(tx, head);
    }
    tx->head = tx->cur = head;
    if (ioctl(fd, NIOCTXSYNC, NULL) < 0)
        die("NIOCTXSYNC");
    until_taken(0);
    printf("%u %u\n", extra, walked);
}

/* A sync's error, and where head and cur are then, counted from where they were. */
static void print_sync(unsigned long request, const struct netmap_ring *ring, uint32_t was)
{
    int error = ioctl(fd, request, NULL) < 0 ? errno : 0;

    printf("%d %d %d\n", error, (int)(ring->head - was), (int)(ring->cur - was));
}

static void print_poll(short events)
{
    struct pollfd one = {.fd = fd, .events = events};

    if (poll(&one, n_ports, 0) < 0)
        die("poll");
    printf("%d\n", one.revents);
}

/* In rings that nothing was sent in: head is 0, and all but one slots of tx are ours. */
static void break_rules(void)
{
    struct netmap_slot *slot = tx->slot;
    uint32_t bufs[] = {slot[0].buf_idx, slot[1].buf_idx, slot[2].buf_idx};

    /* A cur past the tail. What repairs the ring looks at its slots, too. */
    slot[0].buf_idx = 1;
    slot[1].buf_idx = UINT32_MAX;
    slot[2].len = 65535;
    tx->head = 2;
    tx->cur = next_slot(tx, tx->tail);
    print_sync(NIOCTXSYNC, tx, 0);
    for (int i = 0; i < 3; i++)
        printf("%d %u\n", slot[i].buf_idx == bufs[i] ? -1 : (int)slot[i].buf_idx, slot[i].len);
    slot[0].buf_idx = bufs[0];
    slot[1].buf_idx = bufs[1];
    /* A slot that is longer than its buffer: a pipe's sync refuses it, a switch drops the frame. */
    slot[0].len = 2049;
    tx->head = tx->cur = 1;
    print_sync(NIOCTXSYNC, tx, 0);
    /* A head that is no slot's; a cur and a head past the tail of what was received. poll says so once. */
    tx->head = tx->num_slots;
    print_poll(POLLOUT);
    print_poll(POLLOUT);
    rx->cur = next_slot(rx, rx->tail);
    print_sync(NIOCRXSYNC, rx, 0);
    rx->head = 1;
    print_poll(POLLIN);
    print_poll(POLLIN);
}

static void receive_all(uint64_t count)
{
    uint64_t got = 0, good = 0;
    char expected[SIZE];

    while (got < count) {
        uint32_t head;

        wait_for(POLLIN);
        for (head = rx->head; head != rx->tail && got < count; head = next_slot(rx, head)) {
            frame(expected, got++);
            good += rx->slot[head].len == SIZE && !memcmp(buffer(rx, head), expected, SIZE);
        }
        rx->head = rx->cur = head;
    }
    ioctl(fd, NIOCRXSYNC, NULL);
    printf("%llu %llu\n", (unsigned long long)got, (unsigned long long)good);
}

static void *wait_for_room(void *unused)
{
    wait_for(POLLOUT);
    return unused;
}

static void receive_while_another_waits(uint64_t count)
{
    pthread_t other;

    tx->head = tx->cur = tx->tail; /* full: the other side does not read for now */
    if (ioctl(fd, NIOCTXSYNC, NULL) < 0)
        die("NIOCTXSYNC");
    if (pthread_create(&other, NULL, wait_for_room, NULL))
        die("pthread_create");
    receive_all(count);
    if (pthread_join(other, NULL))
        die("pthread_join");
}

static void send_back(uint64_t count, int swap)
{
    uint64_t done = 0;

    while (done < count) {
        uint32_t from, to;

        wait_for(POLLIN);
        if (tx->head == tx->tail)
            wait_for(POLLOUT);
        from = rx->head;
        to = tx->head;
        while (from != rx->tail && to != tx->tail && done < count) {
            struct netmap_slot *in = &rx->slot[from], *out = &tx->slot[to];

            if (swap) {
                uint32_t buf = in->buf_idx;

                in->buf_idx = out->buf_idx;
                out->buf_idx = buf;
                in->flags |= NS_BUF_CHANGED;
                out->flags = NS_BUF_CHANGED;
            } else {
                memcpy(buffer(tx, to), buffer(rx, from), in->len);
                out->flags = 0;
            }
            out->flags |= in->flags & NS_MOREFRAG;
            out->len = in->len;
            from = next_slot(rx, from);
            to = next_slot(tx, to);
            done++;
        }
        rx->head = rx->cur = from;
        tx->head = tx->cur = to;
        ioctl(fd, NIOCTXSYNC, NULL);
    }
    ioctl(fd, NIOCRXSYNC, NULL);
    printf("%llu\n", (unsigned long long)done);
}

static void ignore(int number)
{
    (void)number;
}

int main(int argc, char **argv)
{
    struct sigaction interrupts = {.sa_handler = ignore}; /* what waits: no SA_RESTART */
    int legacy = argc > 1 && !strcmp(argv[1], "-l");
    const char *mode;
    uint64_t count;

    argc -= legacy;
    argv += legacy;
    by_ppoll = argc > 1 && !strcmp(argv[1], "-p");
    argc -= by_ppoll;
    argv += by_ppoll;
    if (argc != 4)
        return 1;
    sigaction(SIGUSR1, &interrupts, NULL);
    mode = argv[1];
    count = strtoull(argv[3], NULL, 10);
    extra = strcmp(mode, "extra") ? 0 : (uint32_t)count;
    open_device();
    if (strcmp(mode, "info"))
        open_port(argv[2], legacy);
    fputs("open\n", stderr);
    if (!strcmp(mode, "bad"))
        break_rules();
    if (!strcmp(mode, "info"))
        print_info(argv[2], legacy);
    else if (!strcmp(mode, "extra"))
        send_extra();
    else if (!strcmp(mode, "tx") || !strcmp(mode, "bad"))
        send_all(count, 1);
    else if (!strcmp(mode, "parts"))
        send_all(count, 3);
    else if (!strcmp(mode, "rx"))
        receive_all(count);
    else if (!strcmp(mode, "both"))
        receive_while_another_waits(count);
    else
        send_back(count, !strcmp(mode, "swap"));
    return close(fd) < 0;
}
