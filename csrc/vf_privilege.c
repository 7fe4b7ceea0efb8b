/* SPDX-License-Identifier: Apache-2.0
 *
 * Giving up privileges, for good. Linux has capabilities, and no_new_privs, by thread, and no call that
 * changes those of another one: so a thread is sent a signal, whose handler does it there. A filter of
 * system calls Linux puts in force in all threads by itself.
 *
 * Sources: capabilities(7), capset(2), prctl(2), seccomp(2), signal-safety(7).
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall, SIGRTMAX */
#endif

#include "vf_shim.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#define LOOKS 2000 /* for the answer of another thread ... */
#define LOOK_NS 1000000 /* ... one each millisecond */

static uint64_t wanted;
static _Atomic int64_t answer; /* 1: none yet */

int64_t vf_privilege_drop(uint64_t keep)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct sets[2];

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -(int64_t)errno;
    /* Of what this takes a capability, it is one that no exec could give anyway. */
    for (unsigned long capability = 0; prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0; capability++)
        ;
    if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
        return -(int64_t)errno;
    if (syscall(SYS_capget, &header, sets) < 0)
        return -(int64_t)errno;
    for (int half = 0; half < 2; half++) {
        sets[half].permitted &= (uint32_t)(keep >> 32 * half);
        sets[half].effective = sets[half].permitted;
        sets[half].inheritable = 0;
    }
    return syscall(SYS_capset, &header, sets) < 0 ? -(int64_t)errno : 0;
}

static void on_signal(int number)
{
    int error = errno;

    (void)number;
    answer = vf_privilege_drop(wanted);
    errno = error;
}

int64_t vf_privilege_drop_in(int64_t tid, uint64_t keep)
{
    const struct timespec pause = {0, LOOK_NS};
    struct sigaction action;

    memset(&action, 0, sizeof(action));
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    wanted = keep;
    answer = 1;
    /* It stays: a signal that is late must find it, and whoever else sends one has the same done again. */
    if (sigaction(SIGRTMAX, &action, NULL) < 0)
        return -(int64_t)errno;
    if (syscall(SYS_tgkill, getpid(), (pid_t)tid, SIGRTMAX) < 0)
        return -(int64_t)errno;
    for (int look = 0; look < LOOKS; look++) {
        int64_t found = answer;

        if (found <= 0)
            return found;
        if (syscall(SYS_tgkill, getpid(), (pid_t)tid, 0) < 0) /* it has ended */
            return -(int64_t)errno;
        nanosleep(&pause, NULL);
    }
    return -ETIMEDOUT;
}

int64_t vf_seccomp(const void *steps, uint64_t n)
{
    struct sock_fprog program = {.len = (unsigned short)n, .filter = (struct sock_filter *)steps};
    /* Without SPEC_ALLOW Linux before 5.16 also switches off speculation, which costs every packet. */
    unsigned int flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
    long result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);

    return result > 0 ? -EBUSY : result < 0 ? -(int64_t)errno : 0;
}
