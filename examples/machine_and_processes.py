"""Two processes ask a virtual machine, a Linux at 10.0.0.9, for its MAC: arguments KERNEL INITRD."""

import subprocess
import sys

from vforward import Forwarder, MemringPort, VhostUserPort, attach
from vforward.testing import packets as pk

QEMU = """qemu-system-x86_64 -M q35 -accel tcg -cpu max -m 160 -display none -nodefaults
-object memory-backend-memfd,id=mem,size=160M,share=on -numa node,memdev=mem
-chardev socket,id=c0,path=vm.sock -netdev vhost-user,id=n0,chardev=c0
-device virtio-net-pci,netdev=n0,mac=02:00:00:00:01:09,vectors=0 -kernel {} -initrd {}"""

if sys.argv[1] in ("a", "b"):  # a process: it reads and writes frames in the switch's own buffers
    ip, mac = f"10.0.0.{ord(sys.argv[1])}", f"02:00:00:00:00:0{sys.argv[1]}"
    question = pk.eth("ff:ff:ff:ff:ff:ff", mac, 0x0806, pk.arp_request(mac, ip, "10.0.0.9"))
    with attach("lab", sys.argv[1]) as port:
        said = []
        while not said:
            if not port.wait(0.5):  # silence: ask, or ask again
                for frame in (packets := port.new([len(question)])):
                    frame[:] = list(question)
                port.send(packets)
            packets = port.receive()
            said = [frame.tobytes() for frame in packets if frame[21] == 2]  # ARP replies
            port.free(packets)
        print(sys.argv[1], "knows: 10.0.0.9 is at", said[0][6:12].hex(":"))
else:
    with Forwarder("lab") as switch:
        switch.add_bridge("lan")
        for name in ("a", "b", "vm"):
            switch.add_port(name, VhostUserPort("vm.sock") if name == "vm" else MemringPort())
            switch.add_to_bridge("lan", name)
        switch.build()
        switch.start()
        with subprocess.Popen(QEMU.format(*sys.argv[1:]).split()) as qemu:
            processes = [subprocess.Popen([sys.executable, __file__, name]) for name in "ab"]
            codes = [process.wait() for process in processes]
            qemu.kill()
    sys.exit(any(codes))
