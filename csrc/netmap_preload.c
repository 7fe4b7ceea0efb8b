/* SPDX-License-Identifier: Apache-2.0
 *
 * libvforward_netmap.so: open, ioctl, mmap, poll and close of /dev/netmap, in user space. Loaded before
 * the C library (LD_PRELOAD; `vforward netmap-run` does it), so that unmodified netmap programs work
 * without netmap's kernel module. All other descriptors go straight on to the C library.
 *
 * The program's descriptor is the connection to the server. It is known by its number: a copy of it
 * (dup, fork and then register) is not. select and epoll know nothing of netmap here; use poll.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#undef _FORTIFY_SOURCE /* we define what it would redirect */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "netmap_port.h"

#define EXPORT __attribute__((visibility("default")))
#define FDS_MAX 4096
#define REAL(name) ((__typeof__(&name))real(#name))

static struct port *ports[FDS_MAX];

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    if (!found)
        abort();
    return found;
}

static struct port *find(int fd)
{
    return fd >= 0 && fd < FDS_MAX ? __atomic_load_n(&ports[fd], __ATOMIC_ACQUIRE) : NULL;
}

static int open_netmap(int flags)
{
    struct port *port = port_connect(flags & O_CLOEXEC);
    int fd;

    if (!port)
        return -1;
    fd = port->fd;
    if (fd >= FDS_MAX) {
        port_free(port);
        REAL(close)(fd);
        errno = EMFILE;
        return -1;
    }
    __atomic_store_n(&ports[fd], port, __ATOMIC_RELEASE);
    return fd;
}

static bool is_netmap(const char *path)
{
    return path && strcmp(path, NETMAP_DEVICE) == 0;
}

static mode_t mode_of(int flags, va_list arguments)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(arguments, mode_t) : 0;
}

#define OPEN(name)                                                                                 \
    EXPORT int name(const char *path, int flags, ...)                                              \
    {                                                                                              \
        va_list arguments;                                                                         \
        mode_t mode;                                                                               \
                                                                                                   \
        if (is_netmap(path))                                                                       \
            return open_netmap(flags);                                                             \
        va_start(arguments, flags);                                                                \
        mode = mode_of(flags, arguments);                                                          \
        va_end(arguments);                                                                         \
        return REAL(name)(path, flags, mode);                                                      \
    }

OPEN(open)
OPEN(open64)

/* What open becomes with _FORTIFY_SOURCE. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);

EXPORT int __open_2(const char *path, int flags)
{
    return is_netmap(path) ? open_netmap(flags) : REAL(__open_2)(path, flags);
}

EXPORT int __open64_2(const char *path, int flags)
{
    return is_netmap(path) ? open_netmap(flags) : REAL(__open64_2)(path, flags);
}

EXPORT int ioctl(int fd, unsigned long request, ...)
{
    struct port *port = find(fd);
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return port ? port_ioctl(port, request, argument) : REAL(ioctl)(fd, request, argument);
}

#define MMAP(name)                                                                                 \
    EXPORT void *name(void *at, size_t size, int protection, int flags, int fd, off_t offset)      \
    {                                                                                              \
        struct port *port = flags & MAP_ANONYMOUS ? NULL : find(fd);                               \
                                                                                                   \
        if (!port)                                                                                 \
            return REAL(name)(at, size, protection, flags, fd, offset);                            \
        if (!port->registered) {                                                                   \
            errno = ENODEV;                                                                        \
            return MAP_FAILED;                                                                     \
        }                                                                                          \
        return REAL(name)(at, size, protection, flags, port->memfd, offset);                       \
    }

MMAP(mmap)
MMAP(mmap64)

EXPORT int close(int fd)
{
    struct port *port = find(fd);

    if (port) {
        __atomic_store_n(&ports[fd], NULL, __ATOMIC_RELEASE);
        port_free(port);
    }
    return REAL(close)(fd);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* What the ports say now. */
static int scan(struct pollfd *fds, nfds_t n)
{
    int ready = 0;

    for (nfds_t i = 0; i < n; i++) {
        struct port *port = find(fds[i].fd);

        if (port) {
            fds[i].revents = port_events(port, fds[i].events);
            ready += fds[i].revents != 0;
        }
    }
    return ready;
}

static void begin_to_wait(const struct pollfd *fds, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++) {
        struct port *port = find(fds[i].fd);

        if (port)
            port_wait(port, fds[i].events);
    }
}

static void end_to_wait(const struct pollfd *fds, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++) {
        struct port *port = find(fds[i].fd);

        if (port)
            port_waited(port);
    }
}

/* One wait, begun or not: how many of the other descriptors are ready, or -1 and errno. */
static int wait_once(struct pollfd *fds, struct pollfd *asked, nfds_t n, int64_t left_ns,
                     const sigset_t *mask, bool begun)
{
    struct timespec left = {left_ns / 1000000000, left_ns % 1000000000};
    int ready = 0, found;

    for (nfds_t i = 0; i < n; i++) {
        struct port *port = find(fds[i].fd);

        asked[i] = port ? (struct pollfd){port->bell, POLLIN, 0} : fds[i];
    }
    found = REAL(ppoll)(asked, n, left_ns < 0 ? NULL : &left, mask);
    if (begun)
        end_to_wait(fds, n);
    if (found < 0)
        return -1;
    for (nfds_t i = 0; i < n; i++) {
        struct port *port = find(fds[i].fd);

        if (!port) {
            fds[i].revents = asked[i].revents;
            ready += fds[i].revents != 0;
        } else if (asked[i].revents) {
            port_heard(port);
        }
    }
    return ready;
}

/* timeout_ns < 0: for ever. */
static int poll_netmap(struct pollfd *fds, nfds_t n, int64_t timeout_ns, const sigset_t *mask)
{
    int64_t end = timeout_ns < 0 ? -1 : now_ns() + timeout_ns;
    struct pollfd *asked = malloc((n ? n : 1) * sizeof(*asked));
    int ready = 0;

    while (asked) {
        int64_t left = end < 0 ? -1 : end - now_ns();
        int ports_ready = scan(fds, n), others;
        bool waits = !ports_ready && timeout_ns != 0;

        if (waits) {
            begin_to_wait(fds, n);
            ports_ready = scan(fds, n); /* what came before they knew that we wait */
        }
        if (ports_ready || (end >= 0 && left < 0))
            left = 0;
        others = wait_once(fds, asked, n, left, mask, waits);
        ready = others < 0 ? -1 : ports_ready + others;
        if (ready)
            break;
        if (left == 0) {
            ready = scan(fds, n);
            break;
        }
    }
    free(asked);
    return asked ? ready : -1;
}

static bool any_netmap(const struct pollfd *fds, nfds_t n)
{
    for (nfds_t i = 0; i < n; i++)
        if (find(fds[i].fd))
            return true;
    return false;
}

EXPORT int poll(struct pollfd *fds, nfds_t n, int timeout)
{
    if (!any_netmap(fds, n))
        return REAL(poll)(fds, n, timeout);
    return poll_netmap(fds, n, timeout < 0 ? -1 : timeout * 1000000LL, NULL);
}

EXPORT int ppoll(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask)
{
    if (!any_netmap(fds, n))
        return REAL(ppoll)(fds, n, timeout, mask);
    return poll_netmap(fds, n, timeout ? timeout->tv_sec * 1000000000LL + timeout->tv_nsec : -1,
                       mask);
}

/* What poll and ppoll become with _FORTIFY_SOURCE. */
int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size);

EXPORT int __poll_chk(struct pollfd *fds, nfds_t n, int timeout, size_t size)
{
    if (size / sizeof(*fds) < n)
        abort();
    return poll(fds, n, timeout);
}

int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask,
                size_t size);

EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t n, const struct timespec *timeout,
                       const sigset_t *mask, size_t size)
{
    if (size / sizeof(*fds) < n)
        abort();
    return ppoll(fds, n, timeout, mask);
}
