/* SPDX-License-Identifier: Apache-2.0
 *
 * NIOCTXSYNC and NIOCRXSYNC in user space, for C programs: the same steps, in the same order, as
 * src/vforward/rings/netmap_sync.py and netmap_pipe.py, where they are explained. A C program may stand
 * at one end of a pipe and a Python program at the other.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "netmap_port.h"

enum { OURS = 0, THEIRS = 64, WAITS = 4 };                   /* a pipe's link */
enum { PORT_HEAD = 0, PORT_CUR = 4, PORT_WAITS = 8 };        /* a VALE port's link */
enum { SWITCH_TAIL = THEIRS + 4, SWITCH_SLEEPS = THEIRS + 8 };
enum { FIRST_BUF = 2, LINE = 64 };

static uint32_t load(const void *where)
{
    return __atomic_load_n((const uint32_t *)where, __ATOMIC_ACQUIRE);
}

static void store(void *where, uint32_t value)
{
    __atomic_store_n((uint32_t *)where, value, __ATOMIC_RELEASE);
}

static void fence(void)
{
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

static uint32_t distance(uint32_t n, uint32_t here, uint32_t there)
{
    return there >= here ? there - here : there + n - here;
}

static uint32_t following(uint32_t n, uint32_t slot)
{
    return slot + 1 < n ? slot + 1 : 0;
}

static uint32_t before(uint32_t n, uint32_t slot)
{
    return slot > 0 ? slot - 1 : n - 1;
}

static bool checked_head(const struct kring *k, uint32_t *head_out)
{
    uint32_t head = load(&k->ring->head), cur = load(&k->ring->cur);
    uint32_t owned = distance(k->n, k->first, k->last), ahead;

    if (head >= k->n || cur >= k->n)
        return false;
    ahead = distance(k->n, k->first, head);
    if (ahead > owned || distance(k->n, head, cur) > owned - ahead)
        return false;
    *head_out = head;
    return true;
}

static bool is_slot(const struct kring *k, const struct netmap_slot *slot)
{
    return slot->buf_idx >= FIRST_BUF && slot->buf_idx < k->bufs && slot->len <= k->buf_size;
}

static void set_words(struct kring *k)
{
    store(&k->ring->head, k->first);
    store(&k->ring->cur, k->first);
    store(&k->ring->tail, k->last);
}

static int reinit(struct kring *k)
{
    for (uint32_t at = k->first; at != k->last; at = following(k->n, at)) {
        struct netmap_slot *slot = &k->ring->slot[at];

        if (slot->buf_idx < FIRST_BUF || slot->buf_idx >= k->bufs)
            slot->buf_idx = slot->len = 0;
        else if (slot->len > k->buf_size)
            slot->len = 0;
    }
    set_words(k);
    errno = EINVAL;
    return -1;
}

static int finish(struct kring *k, uint32_t last)
{
    uint32_t most = before(k->n, k->first);

    if (last < k->n && distance(k->n, k->last, last) <= distance(k->n, k->last, most))
        k->last = last;
    store(&k->ring->tail, k->last);
    if (load(&k->ring->flags) & NR_TIMESTAMP) {
        struct timeval now;

        gettimeofday(&now, NULL);
        k->ring->ts_sec = now.tv_sec;
        k->ring->ts_usec = now.tv_usec;
    }
    return 0;
}

static void wake(const struct port *port)
{
    /* If that fails it is gone, or has been woken already. */
    (void)!send(port->bell, "w", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void publish(struct port *port, struct kring *k, int line, uint32_t slot)
{
    char *other = k->link + (THEIRS - line) + WAITS;

    if (slot == k->ours)
        return;
    k->ours = slot;
    store(k->link + line, slot);
    fence();
    if (load(other)) {
        store(other, 0);
        wake(port);
    }
}

static int pipe_txsync(struct port *port, struct kring *k)
{
    uint32_t head, complete = k->ours, returned, at;
    bool good = true;

    if (!checked_head(k, &head))
        return reinit(k);
    for (at = k->first; at != head; ) {
        struct netmap_slot *mine = &k->ring->slot[at], slot = *mine;

        if (!is_slot(k, &slot)) {
            good = false;
            break;
        }
        if (slot.flags & NS_BUF_CHANGED)
            mine->flags = slot.flags = (uint16_t)(slot.flags & ~NS_BUF_CHANGED);
        k->peer->slot[at] = slot;
        at = following(k->n, at);
        if (!(slot.flags & NS_MOREFRAG))
            complete = at;
    }
    k->first = at;
    publish(port, k, OURS, complete);
    if (!good)
        return reinit(k);
    returned = load(k->link + THEIRS);
    return finish(k, returned < k->n ? before(k->n, returned) : k->n);
}

/* Writes to each cache line of a packet that is returned, what is there already, and of the slots. */
static void claim(const struct kring *k, uint32_t at, const struct netmap_slot *slot)
{
    char *buf = k->data + (size_t)slot->buf_idx * k->buf_size;
    uint32_t off = 0;

    do {
        uint64_t *word = (uint64_t *)(void *)(buf + off);

        __atomic_store_n(word, __atomic_load_n(word, __ATOMIC_RELAXED), __ATOMIC_RELAXED);
        off += LINE;
    } while (off < slot->len);
    __atomic_store_n(&k->ring->slot[at].ptr, 0, __ATOMIC_RELAXED);
}

static int pipe_rxsync(struct port *port, struct kring *k)
{
    uint32_t head, at;
    bool good = true;

    if (!checked_head(k, &head))
        return reinit(k);
    for (at = k->first; at != head; at = following(k->n, at)) {
        struct netmap_slot slot = k->ring->slot[at];

        bool named = is_slot(k, &slot);

        if (slot.flags & NS_BUF_CHANGED) {
            if (!named) {
                good = false;
                break;
            }
            k->peer->slot[at] = slot;
        }
        if (named)
            claim(k, at, &slot);
    }
    k->first = at;
    publish(port, k, THEIRS, at);
    if (!good)
        return reinit(k);
    return finish(k, load(k->link + OURS));
}

static int vale_sync(struct port *port, struct kring *k)
{
    uint32_t head;

    if (!checked_head(k, &head))
        return reinit(k);
    if (head != k->first) {
        k->first = head;
        store(k->link + PORT_CUR, load(&k->ring->cur));
        store(k->link + PORT_HEAD, head);
        fence();
        if (load(k->link + SWITCH_SLEEPS))
            wake(port);
    }
    return finish(k, load(k->link + SWITCH_TAIL));
}

static int sync_ring(struct port *port, int which)
{
    struct kring *k = &port->krings[which];

    if (port->reply.kind == VF_VALE)
        return vale_sync(port, k);
    return which == TX ? pipe_txsync(port, k) : pipe_rxsync(port, k);
}

int port_sync(struct port *port, int which)
{
    int done;

    pthread_mutex_lock(&port->lock);
    done = sync_ring(port, which);
    pthread_mutex_unlock(&port->lock);
    return done;
}

void port_begin(struct port *port)
{
    struct kring *tx = &port->krings[TX], *rx = &port->krings[RX];

    if (port->reply.kind == VF_VALE) {
        tx->last = load(tx->link + SWITCH_TAIL) % tx->n;
        rx->last = load(rx->link + SWITCH_TAIL) % rx->n;
    } else {
        tx->first = tx->ours = load(tx->link + OURS) % tx->n;
        tx->last = before(tx->n, load(tx->link + THEIRS) % tx->n);
        rx->first = rx->ours = load(rx->link + THEIRS) % rx->n;
        rx->last = load(rx->link + OURS) % rx->n;
    }
    set_words(tx);
    set_words(rx);
}

static void ask_for_wakeup(struct port *port, int which)
{
    char *link = port->krings[which].link;

    if (port->reply.kind == VF_VALE)
        store(link + PORT_WAITS, 1);
    else
        store(link + (which == TX ? OURS : THEIRS) + WAITS, 1);
    fence();
}

void port_wait(struct port *port, short events)
{
    pthread_mutex_lock(&port->lock);
    port->waiting++;
    pthread_mutex_unlock(&port->lock);
    if (events & (POLLOUT | POLLWRNORM))
        ask_for_wakeup(port, TX);
    if (events & (POLLIN | POLLRDNORM))
        ask_for_wakeup(port, RX);
}

void port_waited(struct port *port)
{
    pthread_mutex_lock(&port->lock);
    port->waiting--;
    pthread_mutex_unlock(&port->lock);
}

void port_heard(struct port *port)
{
    char room[4096];

    pthread_mutex_lock(&port->lock);
    if (!port->waiting && recv(port->bell, room, sizeof(room), MSG_DONTWAIT) == 0)
        port->gone = true;
    pthread_mutex_unlock(&port->lock);
}

static short events_now(struct port *port, short events)
{
    const struct kring *tx = &port->krings[TX], *rx = &port->krings[RX];
    int wants_tx = events & (POLLOUT | POLLWRNORM), wants_rx = events & (POLLIN | POLLRDNORM);
    int found = 0;

    if (!port->registered || port->gone)
        return POLLERR;
    if ((wants_tx || !port->no_tx_poll) && sync_ring(port, TX) < 0)
        return POLLERR;
    if ((wants_rx || port->do_rx_poll) && sync_ring(port, RX) < 0)
        return POLLERR;
    if (wants_tx && load(&tx->ring->cur) != tx->last)
        found |= wants_tx;
    if (wants_rx && load(&rx->ring->cur) != rx->last)
        found |= wants_rx;
    return (short)found;
}

short port_events(struct port *port, short events)
{
    short found;

    pthread_mutex_lock(&port->lock);
    found = events_now(port, events);
    pthread_mutex_unlock(&port->lock);
    return found;
}
