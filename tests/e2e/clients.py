"""Programs that people use across a firewall, as servers and as clients."""

import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from e2e.lab import LONG, family_of

PACKAGES = {
    "iperf3": "iperf3", "curl": "curl", "dig": "dnsutils", "dnsmasq": "dnsmasq-base",
    "traceroute": "traceroute",
}  # fmt: skip
HTTP, DNS, IPERF = 8080, 53, 5201
NAME, KNOWN, TEXTS = "host.example", "198.51.100.77", ["x" * 250, "y" * 250, "z" * 250]
"""What the DNS server knows: an address; and texts, too long for UDP without EDNS."""
CONTENT = np.random.default_rng(4).bytes(3_000_000)
"""The file that the web server has."""
WEB_SERVER = """
import functools, http.server, socket, socketserver, sys

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
    server_bind = socketserver.TCPServer.server_bind  # http.server's asks DNS who it is

handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=sys.argv[3])
Server((sys.argv[1], int(sys.argv[2])), handler).serve_forever()
"""
COULD_NOT_CONNECT, TIMED_OUT = 7, 28
"""What curl ends with."""


def needs(*tools):
    """A mark: skip where a tool is missing."""
    path = "/usr/bin:/bin:/usr/sbin:/sbin"
    missing = [tool for tool in tools if not (shutil.which(tool) or shutil.which(tool, path=path))]
    packages = " ".join(PACKAGES[tool] for tool in missing)
    reason = f"{', '.join(missing)} missing: apt-get install {packages}"
    return pytest.mark.skipif(bool(missing), reason=reason)


@contextlib.contextmanager
def serving(host, port, log, *command):
    """A server while it runs; what it writes goes to the file log."""
    with log.open("w") as out:
        server = subprocess.Popen(host.command(*command), stdout=out, stderr=subprocess.STDOUT)
    with server:
        try:
            deadline = time.monotonic() + LONG
            while f":{port} " not in host.run("ss", "-Hltn"):
                assert server.poll() is None, f"{command} has ended: {log.read_text()}"
                assert time.monotonic() < deadline, f"{command} does not serve port {port}"
                time.sleep(0.02)
            yield server
        finally:
            server.terminate()


@contextlib.contextmanager
def web_server(host, address, directory, port=HTTP):
    """A web server. Yields a function that says who has fetched the file until now."""
    (directory / "file").write_bytes(CONTENT)
    log = directory / "log-web"
    program = (sys.executable, "-u", "-c", WEB_SERVER, address, str(port), str(directory))
    with serving(host, port, log, *program):
        yield lambda: re.findall(r'^(\S+) - - .*" 200 ', log.read_text(), re.MULTILINE)


def url_of(address, port=HTTP):
    """The file's."""
    return f"http://[{address}]:{port}/file" if ":" in address else f"http://{address}:{port}/file"


def fetched(client, url, *options):
    """Fetch a file by curl: what it ends with, and the file."""
    command = client.command("curl", "-sS", "-g", "--max-time", str(LONG), *options, url)
    done = subprocess.run(command, capture_output=True, timeout=2 * LONG, check=False)
    return done.returncode, done.stdout


def dns_server(host, address, directory, port=DNS):
    """A DNS server that knows NAME."""
    texts = ",".join(TEXTS)
    return serving(
        host, port, directory / "log-dns",
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=root",
        "--group=root", "--no-resolv", "--no-hosts", "--bind-interfaces", "--except-interface=lo",
        f"--listen-address={address}", f"--port={port}", f"--host-record={NAME},{KNOWN}",
        f"--txt-record={NAME},{texts}", "--log-facility=-",
    )  # fmt: skip


def asked(client, server, *what, port=DNS):
    """What dig says of a name, in short."""
    options = ("+short", "+tries=1", "+time=10", "-p", str(port))
    return client.run("dig", f"@{server}", NAME, *what, *options, check=False, timeout=LONG)


def iperf_server(host, address, directory, port=IPERF):
    """A server of iperf3 for any number of clients, one after the other."""
    where = ("-B", address, "-p", str(port))
    return serving(host, port, directory / "log-iperf", "iperf3", "-s", "--forceflush", *where)


def iperf(client, server, *options, port=IPERF):
    """What iperf3 says at the end, of all that went: its JSON's "end"."""
    command = ("iperf3", "-J", "-c", server, "-p", str(port), *options)
    told = json.loads(client.run(*command, check=False, timeout=2 * LONG))
    if "busy" in told.get("error", ""):  # with the client before: it has gone, and the server lags
        time.sleep(1)
        told = json.loads(client.run(*command, check=False, timeout=2 * LONG))
    assert "error" not in told, told["error"]
    return told["end"]


def hops(client, to, *options):
    """Who answers to traceroute, hop by hop; * for those who do not."""
    said = client.run("traceroute", "-n", "-q1", "-w10", *options, to, timeout=LONG)
    return [line.split()[1] for line in said.splitlines()[1:]]


def why_not(client, address, port, kind=socket.SOCK_STREAM, patience=LONG):
    """The error that a program gets who calls there, by TCP or UDP; fails if there is none."""
    with client.inside():
        caller = socket.socket(family_of(address), kind)
    with caller:
        caller.settimeout(patience)
        try:
            caller.connect((address, port))
            caller.send(b"anybody there")
            caller.recv(1)
        except TimeoutError:
            return TimeoutError
        except OSError as error:
            return error.errno
    raise AssertionError("somebody has answered")
