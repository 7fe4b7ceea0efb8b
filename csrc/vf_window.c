/* SPDX-License-Identifier: Apache-2.0
 *
 * Windows onto memory that a peer can take away, and the SIGBUS that comes of it.
 *
 * The handler runs in the thread that touched the page, between two of its instructions. It only reads
 * the table of windows, whose entries are published last and withdrawn first, and calls mmap.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "vf_shim.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/vfs.h>

#define VF_WINDOWS 1024 /* one for each port */
#define RESERVED (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

struct window {
    _Atomic uint64_t start; /* 0: free */
    uint64_t size;
    _Atomic uint64_t *gone;
};

static struct window windows[VF_WINDOWS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sigaction before;
static int installed;

static void *pointer(uint64_t address)
{
    return (void *)(uintptr_t)address;
}

static int heal(uint64_t address)
{
    for (size_t i = 0; i < VF_WINDOWS; i++) {
        uint64_t start = atomic_load_explicit(&windows[i].start, memory_order_acquire);

        if (start == 0 || address < start || address - start >= windows[i].size)
            continue;
        if (mmap(pointer(start), windows[i].size, PROT_READ | PROT_WRITE, RESERVED | MAP_FIXED, -1,
                 0) == MAP_FAILED)
            return 0;
        atomic_store_explicit(windows[i].gone, 1, memory_order_release);
        return 1;
    }
    return 0;
}

static void on_sigbus(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    int healed = info->si_code == BUS_ADRERR && heal((uint64_t)(uintptr_t)info->si_addr);

    errno = saved;
    if (healed)
        return;
    if (before.sa_flags & SA_SIGINFO)
        before.sa_sigaction(number, info, context);
    else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN)
        before.sa_handler(number);
    else if (signal(number, SIG_DFL) != SIG_ERR)
        raise(number); /* delivered when this returns: the process ends as it would have */
}

/* With the lock held. */
static int64_t install(void)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    if (installed)
        return 0;
    sigemptyset(&action.sa_mask);
    if (sigaction(SIGBUS, &action, &before) < 0)
        return -(int64_t)errno;
    installed = 1;
    return 0;
}

static int64_t publish(uint64_t start, uint64_t size, uint64_t *gone)
{
    int64_t error;

    pthread_mutex_lock(&lock);
    error = install();
    for (size_t i = 0; error == 0 && i <= VF_WINDOWS; i++) {
        if (i == VF_WINDOWS) {
            error = -ENOSPC;
        } else if (atomic_load(&windows[i].start) == 0) {
            windows[i].size = size;
            windows[i].gone = (_Atomic uint64_t *)gone;
            atomic_store_explicit(&windows[i].start, start, memory_order_release);
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return error;
}

int64_t vf_window_open(uint64_t size, uint64_t *gone, uint64_t *address_out)
{
    void *address = mmap(NULL, size, PROT_NONE, RESERVED, -1, 0);
    int64_t error;

    if (address == MAP_FAILED)
        return -(int64_t)errno;
    error = publish((uint64_t)(uintptr_t)address, size, gone);
    if (error < 0) {
        munmap(address, size);
        return error;
    }
    *address_out = (uint64_t)(uintptr_t)address;
    return 0;
}

int64_t vf_window_map(uint64_t address, int64_t fd, uint64_t size, uint64_t offset)
{
    void *mapped = mmap(pointer(address), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                        (int)fd, (off_t)offset);

    return mapped == MAP_FAILED ? -(int64_t)errno : 0;
}

int64_t vf_window_clear(uint64_t address, uint64_t size)
{
    void *cleared = mmap(pointer(address), size, PROT_NONE, RESERVED | MAP_FIXED, -1, 0);

    return cleared == MAP_FAILED ? -(int64_t)errno : 0;
}

int64_t vf_window_close(uint64_t address, uint64_t size)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < VF_WINDOWS; i++)
        if (atomic_load(&windows[i].start) == address)
            atomic_store_explicit(&windows[i].start, 0, memory_order_release);
    pthread_mutex_unlock(&lock);
    return munmap(pointer(address), size) < 0 ? -(int64_t)errno : 0;
}

int64_t vf_file_system(int64_t fd)
{
    struct statfs found;

    return fstatfs((int)fd, &found) < 0 ? -(int64_t)errno : (int64_t)(uint32_t)found.f_type;
}
