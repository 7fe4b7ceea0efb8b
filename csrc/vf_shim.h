/* SPDX-License-Identifier: Apache-2.0
 *
 * The system calls that vforward makes, callable by address from compiled Numba code.
 *
 * Every function does one system call's worth of work and returns a result >= 0 or -errno;
 * none looks into a packet. All integers are 64 bits wide, so that a caller which only has an
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

/* Memory. */

/* Maps size bytes of fd from its start, shared, for reading and writing; stores the address. */
int64_t vf_mmap_shared(int64_t fd, uint64_t size, uint64_t *address_out);
int64_t vf_munmap(uint64_t address, uint64_t size);

/* cdef: end */

#endif
