/* SPDX-License-Identifier: Apache-2.0
 *
 * Signalling an eventfd that a peer has given us, without ever waiting for it.
 *
 * write(2) waits while the counter is full, unless the file is O_NONBLOCK; whoever else has the same
 * file can fill the one and clear the other. The kernel itself signals without waiting: when an
 * asynchronous read (io_submit) that names the eventfd is done. Ours reads a byte of /dev/zero, and
 * is done before io_submit returns.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "vf_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ROOM 64 /* reads that may be done and not looked at */

enum { CONTEXT, ZERO, DONE }; /* of the words; CONTEXT 0: there is no such thing here */

int64_t vf_bell_open(uint64_t *words)
{
    aio_context_t context = 0;
    int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);

    words[CONTEXT] = words[DONE] = 0;
    if (zero < 0)
        return -(int64_t)errno;
    if (syscall(SYS_io_setup, ROOM, &context) < 0) {
        int64_t error = -(int64_t)errno;

        close(zero);
        return error;
    }
    words[CONTEXT] = context;
    words[ZERO] = (uint64_t)zero;
    return 0;
}

int64_t vf_bell_ring(uint64_t *words, int64_t fd)
{
    const uint64_t one = 1;
    struct io_event events[ROOM];
    char byte;
    struct iocb read = {
        .aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_fildes = (uint32_t)words[ZERO],
        .aio_buf = (uint64_t)(uintptr_t)&byte,
        .aio_nbytes = 1,
        .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = (uint32_t)fd,
    };
    struct iocb *reads[] = {&read};

    if (words[CONTEXT] == 0)
        return write((int)fd, &one, sizeof(one)) < 0 ? -(int64_t)errno : 0;
    if (words[DONE] == ROOM) {
        syscall(SYS_io_getevents, words[CONTEXT], 0L, (long)ROOM, events, NULL);
        words[DONE] = 0;
    }
    if (syscall(SYS_io_submit, words[CONTEXT], 1L, reads) < 0)
        return -(int64_t)errno;
    words[DONE]++;
    return 0;
}

int64_t vf_bell_close(uint64_t *words)
{
    if (words[CONTEXT] == 0)
        return 0;
    syscall(SYS_io_destroy, words[CONTEXT]);
    close((int)words[ZERO]);
    words[CONTEXT] = 0;
    return 0;
}
