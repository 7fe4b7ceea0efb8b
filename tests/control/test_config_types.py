# SPDX-License-Identifier: Apache-2.0
"""The types of configuration values, as a program meets them; test_config.py has their texts."""

from ipaddress import IPv4Interface
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from vforward.control.config_types import Addresses, Mac, OptionalPath, Prefix


def test_a_mac_is_text_and_bytes() -> None:
    mac = Mac("02:AB:00:00:00:01")
    assert mac == "02:ab:00:00:00:01"
    assert mac.packed == bytes([2, 0xAB, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a MAC address"),
        ("02:00:00:00:00:0", "is not a MAC address"),
        ("02:00:00:00:00:01\n", "is not a MAC address"),
        ("x2:00:00:00:00:01", "is not a MAC address"),
        ("01:00:5e:00:00:01", "is a multicast MAC address"),
        ("ff:ff:ff:ff:ff:ff", "is a multicast MAC address"),
        ("00:00:00:00:00:00", "is the zero MAC address"),
    ],
)
def test_what_is_not_a_unicast_mac(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Mac(text)


def test_addresses_are_texts_or_objects_one_or_many() -> None:
    adapter = TypeAdapter(Addresses)
    one = IPv4Interface("10.0.0.1/24")
    for same in ("10.0.0.1/24", ["10.0.0.1/24"], one, (one,)):
        assert adapter.validate_python(same) == (one,)
    assert adapter.validate_python("10.0.0.0/31") == (IPv4Interface("10.0.0.0/31"),)
    with pytest.raises(ValidationError, match=r"is the network address of 10\.0\.0\.0/30"):
        adapter.validate_python(IPv4Interface("10.0.0.0/30"))


def test_a_prefix_with_host_bits_gets_a_suggestion() -> None:
    with pytest.raises(ValidationError, match=r'did you mean "10\.1\.0\.0/16"'):
        TypeAdapter(Prefix).validate_python("10.1.2.3/16")


def test_a_relative_path_counts_from_the_base() -> None:
    adapter = TypeAdapter(OptionalPath)
    base = {"base": Path("/etc/vf")}
    assert adapter.validate_python("a/b.pcap", context=base) == Path("/etc/vf/a/b.pcap")
    assert adapter.validate_python("/a", context=base) == Path("/a")
    assert adapter.validate_python("a") == Path("a")
