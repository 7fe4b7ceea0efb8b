"""The ports by which sessions tell packets apart."""

import numpy as np
import pytest

from vforward.jit.kernel import kernel
from vforward.packet import ports

AT = 4


@kernel
def load(data, protocol, end):
    return ports.load(data, 0, AT, protocol, end)


def of(protocol, message):
    data = np.full((1, 64), 0xA5, np.uint8)
    data[0, AT : AT + len(message)] = np.frombuffer(message, np.uint8)
    return int(load(data, protocol, AT + len(message)))


@pytest.mark.parametrize("protocol", [6, 17, 33, 132, 136])
def test_protocols_with_ports(protocol):
    assert of(protocol, bytes.fromhex("1f900050ffffffff")) == 0x1F900050
    assert of(protocol, bytes(7)) == ports.NONE


@pytest.mark.parametrize(("protocol", "ask", "answer"), [(1, 8, 0), (58, 128, 129)])
def test_an_echo_and_its_answer_are_two_directions_of_a_flow(protocol, ask, answer):
    assert of(protocol, bytes([ask, 0, 0, 0, 0x12, 0x34, 0, 1])) == 0x12340000
    assert of(protocol, bytes([answer, 0, 0, 0, 0x12, 0x34, 0, 1])) == 0x1234
    assert of(protocol, bytes([ask, 0, 0, 0, 0x12, 0x34, 0])) == ports.NONE


def test_other_icmp_belongs_to_no_flow():
    for kind in (1, 3, 5, 11, 13, 128, 129):
        assert of(1, bytes([kind]) + bytes(7)) == ports.NONE
    for kind in (0, 1, 2, 8, 133, 135):
        assert of(58, bytes([kind]) + bytes(7)) == ports.NONE


def test_the_rest_goes_by_addresses_alone():
    assert of(47, b"") == of(50, bytes(8)) == 0
