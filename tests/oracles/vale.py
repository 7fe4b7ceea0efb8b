# SPDX-License-Identifier: Apache-2.0
"""A VALE switch, from vale(4) and IEEE 802.1Q section 8.8: frames in, lists of frames per port out."""


class Switch:
    """ports: number -> how many more slots its receiver has room for (the test lowers and raises it)."""

    def __init__(self, ports, buf_size=2048, max_age=16):
        self.room = dict(ports)
        self.got = {port: [] for port in ports}
        self.count = {
            port: dict.fromkeys(("received", "sent", "full", "same", "bad"), 0) for port in ports
        }
        self.stations = {}
        self.buf_size, self.max_age, self.now = buf_size, max_age, 0

    def tick(self):
        """Time passes."""
        self.now += 1
        self.stations = {
            mac: (port, heard)
            for mac, (port, heard) in self.stations.items()
            if self.now - heard <= self.max_age
        }

    def gone(self, port):
        """A port is closed: what was learned there is forgotten."""
        del self.room[port], self.got[port]
        self.stations = {mac: at for mac, at in self.stations.items() if at[0] != port}

    def frame(self, port, parts, learn=True):
        """A frame of one part or several comes in by port."""
        counts = self.count[port]
        if (
            len(parts[0]) < 14
            or any(len(part) > self.buf_size for part in parts)
            or len(parts) > 64
        ):
            counts["bad"] += 1
            return
        counts["received"] += 1
        dst, src = parts[0][:6], parts[0][6:12]
        if learn and not src[0] & 1 and src != bytes(6):
            self.stations[src] = port, self.now
        to = self.stations.get(dst, (None, 0))[0] if not dst[0] & 1 else None
        if to == port:
            counts["same"] += 1
        elif to is not None:
            self.deliver(to, parts)
        else:
            for other in sorted(self.room):
                if other != port:
                    self.deliver(other, parts)

    def deliver(self, port, parts):
        """A frame goes out by port, whole, or not at all."""
        if len(parts) > self.room[port]:
            self.count[port]["full"] += 1
            return
        self.room[port] -= len(parts)
        self.got[port].append(b"".join(parts))
        self.count[port]["sent"] += 1
