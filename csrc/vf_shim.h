/* SPDX-License-Identifier: Apache-2.0
 *
 * The system calls that vforward makes, callable by address from compiled Numba code.
 *
 * Every function does one system call's worth of work and returns a result >= 0 or -errno;
 * none looks into a packet (the XDP program of vf_bpf.c does). All integers are 64 bits wide, so that a caller which only has an
 * address needs no C types. This header is the single truth: build_ffi.py gives cffi the lines
 * between the two markers, so they hold plain declarations and no preprocessor directives.
 */
#ifndef VF_SHIM_H
#define VF_SHIM_H

#include <stdint.h>

/* cdef: begin */

/* sizeof, offsetof and kernel constants, for Python to hold its own against; ends with a NULL
 * name. Names: "sizeof(iovec)", "offsetof(iovec, iov_len)", "TP_STATUS_USER". */
struct vf_constant {
    const char *name;
    int64_t value;
};
extern const struct vf_constant vf_constants[];

/* Moving packets, waiting, waking: called by the worker's compiled code. */

/* How many of the n messages went out or came in; -EAGAIN when none could. */
int64_t vf_sendmmsg(int64_t fd, void *msgs, uint64_t n, int64_t flags);
int64_t vf_recvmmsg(int64_t fd, void *msgs, uint64_t n, int64_t flags);

/* For descriptors that are no sockets (a TAP). As sendmmsg, one writev for each message: how many of
 * the n went out whole before one failed; -errno when the first did. flags is not looked at. */
int64_t vf_writev_each(int64_t fd, const void *msgs, uint64_t n, int64_t flags);

/* How many bytes one readv brought. */
int64_t vf_readv(int64_t fd, const void *iov, uint64_t n);

/* How many of the n descriptors are ready, 0 on timeout. timeout_ns < 0 waits for ever. */
int64_t vf_ppoll(void *pollfds, uint64_t n, int64_t timeout_ns);

/* Writes all n bytes and returns n; goes on after EINTR and short writes. After an error the
 * number of bytes already written is not known. */
int64_t vf_write(int64_t fd, const void *buf, uint64_t n);

/* AF_PACKET. Protocols are in host order. The order to call them in: socket(0), version2,
 * vnet_hdr, ignore_outgoing, rx_ring, vf_mmap_shared, then bind with the real protocol. */

/* A raw, non-blocking, close-on-exec packet socket: its descriptor. Protocol 0 receives nothing:
 * right for a transmit socket, and for one that a later bind opens for receiving. */
int64_t vf_packet_socket(int64_t protocol);

/* Frame headers are struct tpacket2_hdr. Before the ring is made, -EBUSY after. */
int64_t vf_packet_version2(int64_t fd);

/* A struct virtio_net_hdr before each frame, both ways. Before the ring is made. */
int64_t vf_packet_vnet_hdr(int64_t fd);

/* Frames that this host sends on the interface are not received. */
int64_t vf_packet_ignore_outgoing(int64_t fd);

/* Makes the receive ring. Sizes in bytes; n_frames = n_blocks * (block_size / frame_size). */
int64_t vf_packet_rx_ring(int64_t fd, uint64_t block_size, uint64_t n_blocks, uint64_t frame_size,
                          uint64_t n_frames);

/* Protocol 0 keeps the socket's own. */
int64_t vf_packet_bind(int64_t fd, int64_t ifindex, int64_t protocol);

/* The interface is promiscuous for as long as the socket lives. */
int64_t vf_packet_promisc(int64_t fd, int64_t ifindex);

/* Stores two words: frames since the last call, the dropped ones included, and frames dropped
 * since the last call. Reading them resets both in the kernel. */
int64_t vf_packet_statistics(int64_t fd, uint64_t *packets_drops_out);

/* AF_XDP (csrc/vf_bpf.c). Needs CAP_NET_ADMIN and CAP_BPF of the host, not of a user namespace; Linux 5.9.
 * What is returned is a descriptor: the program is on the interface until that of vf_xdp_attach is
 * closed, and so no longer than the process lives. */

/* A map from an interface's queues, as many, to AF_XDP sockets. */
int64_t vf_xsk_map(uint64_t queues);

/* The frames of a queue go to that socket, which is bound to it, until it is closed. */
int64_t vf_xsk_map_set(int64_t map, uint64_t queue, int64_t socket);

/* The program: a frame goes to its queue's socket, and where there is none passes on. frags: it may lie in
 * several pieces (Linux 5.18). */
int64_t vf_xdp_program(int64_t map, int64_t frags);

/* The same for one interface, with VLAN tags put back that lie beside the frame. function: what BTF
 * knows the kernel's bpf_xdp_metadata_rx_vlan_tag by (Linux 6.8). */
int64_t vf_xdp_program_tags(int64_t map, int64_t ifindex, int64_t function);

/* Puts a program on an interface: natively, in its driver, or where Linux takes frames up. */
int64_t vf_xdp_attach(int64_t program, int64_t ifindex, int64_t native);

/* Memory. */

/* Maps size bytes of fd from its start, shared, for reading and writing; stores the address. */
int64_t vf_mmap_shared(int64_t fd, uint64_t size, uint64_t *address_out);
int64_t vf_munmap(uint64_t address, uint64_t size);

/* A window: address space in which a peer's memory is mapped. No access is allowed to what is not
 * mapped there. A peer that truncates its file makes the pages behind the end raise SIGBUS; then the
 * whole window becomes private zeros, *gone becomes 1, and the access goes on. SIGBUS anywhere else
 * is left to who handled it before. gone lives until vf_window_close. -ENOSPC: VF_WINDOWS are open. */
int64_t vf_window_open(uint64_t size, uint64_t *gone, uint64_t *address_out);

/* Maps size bytes of fd from offset, shared, for reading and writing, at an address in a window. */
int64_t vf_window_map(uint64_t address, int64_t fd, uint64_t size, uint64_t offset);

/* Nothing is mapped in the window any more, and *gone is what it is. */
int64_t vf_window_clear(uint64_t address, uint64_t size);
int64_t vf_window_close(uint64_t address, uint64_t size);

/* What kind of file system a descriptor's file lies in: statfs(2)'s f_type. */
int64_t vf_file_system(int64_t fd);

/* A bell, three words that belong to one thread at a time: signals an eventfd that somebody else has
 * too, and never waits whatever they do with it. When open fails, ring writes to the eventfd, which
 * should be non-blocking then. */
int64_t vf_bell_open(uint64_t *words);
int64_t vf_bell_ring(uint64_t *words, int64_t fd);
int64_t vf_bell_close(uint64_t *words);

/* Privileges. What is given up here does not come back. */

/* The calling thread keeps, of the capabilities that it has, those whose bits are set; none is inheritable or
 * ambient, and as far as it may none is in the bounding set. no_new_privs is set. */
int64_t vf_privilege_drop(uint64_t keep);

/* The same for another thread of this process, by SIGRTMAX. One caller at a time. -ESRCH: there is no such
 * thread any more; -ETIMEDOUT: it does not take the signal. */
int64_t vf_privilege_drop_in(int64_t tid, uint64_t keep);

/* A filter of n struct sock_filter is in force in all threads, and in what they start. no_new_privs must be
 * set, or CAP_SYS_ADMIN be there. -EBUSY: a thread has a filter of its own. */
int64_t vf_seccomp(const void *steps, uint64_t n);

/* cdef: end */

#endif
