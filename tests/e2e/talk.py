# SPDX-License-Identifier: Apache-2.0
"""One flow that goes on whatever happens to the router, and what the other host sees of it."""

import contextlib
import threading

from e2e.lab import until


class Talk:
    """Datagrams of one flow through NAT, without pause; what h2 sees as their source.

    All that comes is taken at once: nothing that is counted was sent long ago.
    """

    def __init__(self, one, other):
        self.came, self.sources = 0, set()
        self._one, self._other = one, other
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._take)]

    def __enter__(self):
        self._other.settimeout(0.1)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self):
        while not self._stop.wait(0.002):
            with contextlib.suppress(OSError):
                self._one.send(b"a")

    def _take(self):
        while not self._stop.is_set():
            with contextlib.suppress(OSError):
                self.sources.add(self._other.recvfrom(10)[1])
                self.came += 1

    def goes_on(self, n=50):
        """Wait for n more packets."""
        before = self.came
        until(lambda: self.came >= before + n, "packets do not come through")
