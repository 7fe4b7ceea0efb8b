"""Two processes joined by a switch, in memory that all three share: b answers in a's own buffer."""

import subprocess
import sys

import numpy as np

import vforward
from vforward.testing import packets as pk

A, B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"

if "a" in sys.argv:
    with vforward.attach("pair", "a") as port:
        question = pk.eth(B, A, 0x88B5, b"is anybody there?")
        while not (packets := port.new([len(question)])):
            pass  # the switch has not lent us buffers yet
        packets[0][:] = np.frombuffer(question, np.uint8)
        port.send(packets)
        port.wait()
        print("a got:", port.receive().copy(0)[14:].decode())
elif "b" in sys.argv:
    with vforward.attach("pair", "b") as port:
        print("b is there", flush=True)
        port.wait()
        packets = port.receive()
        packets[0][:] = np.frombuffer(pk.eth(A, B, 0x88B5, b"yes, here I am!!!"), np.uint8)
        port.send(packets)
else:
    with vforward.Forwarder("pair") as switch:
        switch.add_bridge("lan")
        for name in "ab":
            switch.add_port(name, vforward.MemringPort())
            switch.add_to_bridge("lan", name)
        switch.build()
        switch.start()
        with subprocess.Popen([sys.executable, __file__, "b"], stdout=subprocess.PIPE) as b:
            print(b.stdout.readline().decode().strip(), flush=True)
            subprocess.run([sys.executable, __file__, "a"], check=True)
