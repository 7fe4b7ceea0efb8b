/* SPDX-License-Identifier: Apache-2.0
 *
 * A netmap program as they are: it opens /dev/netmap, registers, maps, polls, and sends or receives
 * numbered 60-byte frames, as pkt-gen does. It knows nothing of vforward.
 *
 *     netmap_program [-l] [-p] tx|rx|both|echo|swap NAME COUNT
 *
 * -l: NIOCREGIF instead of NIOCCTRL. -p: ppoll instead of poll.
 *
 * tx prints what it sent, rx what it received and how many were as they should be and in order; both
 * does as rx while another thread waits for room to send; echo sends back what it gets, swap does so by
 * exchanging buffers. SIGUSR1 interrupts it. Status 0: all done.
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

static struct netmap_ring *tx, *rx;
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

static char *buffer(struct netmap_ring *ring, uint32_t slot)
{
    return (char *)ring + ring->buf_ofs + (size_t)ring->slot[slot].buf_idx * ring->nr_buf_size;
}

static void open_port(const char *name, int legacy)
{
    struct nmreq_register body = {.nr_mode = NR_REG_ALL_NIC};
    struct nmreq_header header = {.nr_version = 14, .nr_reqtype = NETMAP_REQ_REGISTER};
    struct nmreq old = {.nr_version = 11, .nr_flags = NR_REG_ALL_NIC};
    struct netmap_if *nifp;
    char *memory, *brace;

    fd = open("/dev/netmap", O_RDWR);
    if (fd < 0)
        die("/dev/netmap");
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
    } else {
        strncpy(header.nr_name, name, sizeof(header.nr_name) - 1);
        header.nr_body = (uintptr_t)&body;
        if (ioctl(fd, NIOCCTRL, &header) < 0)
            die(name);
    }
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

static void send_all(uint64_t count)
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
            tx->slot[head].flags = 0;
            head = next_slot(tx, head);
        }
        tx->head = tx->cur = head;
        if (ioctl(fd, NIOCTXSYNC, NULL) < 0)
            die("NIOCTXSYNC");
    }
    while (next_slot(tx, tx->tail) != tx->head) { /* until all is taken */
        if (ioctl(fd, NIOCTXSYNC, NULL) < 0)
            die("NIOCTXSYNC");
        usleep(100);
    }
    printf("%llu\n", (unsigned long long)sent);
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
    uint64_t count;

    argc -= legacy;
    argv += legacy;
    by_ppoll = argc > 1 && !strcmp(argv[1], "-p");
    argc -= by_ppoll;
    argv += by_ppoll;
    if (argc != 4)
        return 1;
    sigaction(SIGUSR1, &interrupts, NULL);
    open_port(argv[2], legacy);
    fputs("open\n", stderr);
    count = strtoull(argv[3], NULL, 10);
    if (!strcmp(argv[1], "tx"))
        send_all(count);
    else if (!strcmp(argv[1], "rx"))
        receive_all(count);
    else if (!strcmp(argv[1], "both"))
        receive_while_another_waits(count);
    else
        send_back(count, !strcmp(argv[1], "swap"));
    return close(fd) < 0;
}
