"""A worker with a virtio port (vhost-user's frontend), and what it does with the port's frames."""

from vforward.io.virtio import VirtioPort
from vhost_worlds import World


class FrontWorld(World):
    """As World. server: we listen there."""

    def make_port(self, path, server, settings):
        return VirtioPort(str(path), server=server, **settings)
