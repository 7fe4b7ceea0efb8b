/* SPDX-License-Identifier: Apache-2.0
 *
 * A netmap port of this process: opened at the server (netmap_port.c), synced here (netmap_sync.c).
 * What the fields and links mean: src/vforward/rings/netmap_sync.py and netmap_pipe.py.
 */
#ifndef VF_NETMAP_PORT_H
#define VF_NETMAP_PORT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "netmap_abi.h"
#include "netmap_message.h"

enum { TX, RX };

/* The kernel's side of a ring. The user owned the slots [first, last) after the last sync. */
struct kring {
    struct netmap_ring *ring;
    struct netmap_ring *peer; /* pipes: the ring at the other end */
    char *link;
    char *data; /* buffer 0 */
    uint32_t n;
    uint32_t bufs;
    uint32_t buf_size;
    uint32_t first;
    uint32_t last;
    uint32_t ours; /* pipes: what this side has published last */
};

/* As netmap has it, one thread may send and another receive, while either's poll syncs both rings. */
struct port {
    int fd; /* the connection: what the program has for /dev/netmap */
    int memfd;
    int bell; /* a socket: readable when the other side has woken us; what is sent there wakes it */
    bool registered;
    bool gone; /* the other side, and the server */
    bool no_tx_poll;
    bool do_rx_poll;
    struct vf_reply reply;
    char *base;
    pthread_mutex_t lock; /* for what follows, and gone */
    unsigned waiting;     /* threads that wait for the bell, or will in a moment */
    struct kring krings[2];
};

/* Connects to the server. NULL and errno. */
struct port *port_connect(bool close_on_exec);

/* Asks the server, for a name as it stands in nr_name. 0, or -1 and errno. */
int port_info(struct port *port, const char *name, struct vf_reply *reply);
int port_register(struct port *port, const char *name, uint32_t tx_slots, uint32_t rx_slots,
                  uint32_t extra);
void port_free(struct port *port);

/* ioctl of a netmap descriptor. 0, or -1 and errno. */
int port_ioctl(struct port *port, unsigned long request, void *argument);

/* 0, or -1 and errno EINVAL: the ring was reinitialised. */
int port_sync(struct port *port, int which);

/* Takes up the rings of a port that was just registered. */
void port_begin(struct port *port);

/*
 * A thread asks for a wakeup when a tail moves, looks once more, and waits for the bell; it has waited;
 * what has rung is read, unless somebody else still waits, who would not be woken then.
 */
void port_wait(struct port *port, short events);
void port_waited(struct port *port);
void port_heard(struct port *port);

/* What poll(2) says of the port now, after a sync. */
short port_events(struct port *port, short events);

#endif
