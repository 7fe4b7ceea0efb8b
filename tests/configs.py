# SPDX-License-Identifier: Apache-2.0
"""Configurations in few words: one line of TOML for each part, and what a message must be."""

import pytest

from vforward.control.config import parse
from vforward.errors import ConfigError


def port(name, more="", kind="memory"):
    return f'ports.{name} = {{type = "{kind}"{more and ", " + more}}}\n'


def vlan(name, more, parent="a"):
    return port(name, f'parent = "{parent}", {more}', "vlan")


def bvi(name, bridge="x", more=""):
    return port(name, f'bridge = "{bridge}"{more and ", " + more}', "bvi")


def tap(name, of, more="", interface="tap0"):
    return port(name, f'interface = "{interface}", host_of = "{of}"{more and ", " + more}', "tap")


def bridge(name, ports, more=""):
    return f"bridges.{name} = {{ports = [{ports}]{more and ', ' + more}}}\n"


def _array(key, items):
    return f"{key} = [" + ", ".join("{" + item + "}" for item in items) + "]\n"


def routes(*items):
    return _array("routes", items)


def route_files(*items):
    return _array("route_files", items)


def neighbors(*items):
    return _array("neighbors", ['mac = "02:00:00:00:00:02", ' + item for item in items])


def crosses(*pairs):
    return _array("cross_connects", [f"ports = [{pair}]" for pair in pairs])


A = port("a", 'address = "10.0.1.1/24"')
A6 = port("a", 'address = "2001:db8::1/64"')
B = port("b")
B6 = port("b", 'address = "2001:db8::1/64"')
BARE = port("a") + B
RED = port("r", 'vrf = "red", address = "10.0.1.1/24"')


def refusal(text):
    """The lines of the message with which ``text`` is refused."""
    with pytest.raises(ConfigError) as caught:
        parse(text, "r.toml")
    return str(caught.value).split("\n")


def message(where, what, got, allowed):
    """One line: ``where`` is the line's number and the key."""
    return f"r.toml:{where}: {what} (got {got}); allowed: {allowed}"
