# SPDX-License-Identifier: Apache-2.0
"""The types of configuration values, as a program meets them; test_config.py has their texts."""

from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, IPv6Network
from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from vforward.control.config_types import (
    Addresses,
    ExistingFile,
    Mac,
    OptionalPath,
    Prefix,
    Tag,
    is_link_local,
)


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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2001:db8::/64", "is the subnet-router anycast address of 2001:db8::/64"),
        ("2001:db8::4/126", "is the subnet-router anycast address of 2001:db8::4/126"),
        ("ff02::1/64", "is a multicast address"),
        ("::1/128", "is a loopback address"),
        ("::/128", "is the zero address"),
        ("::ffff:10.0.0.1/128", "is an IPv4-mapped address"),
        ("fe80::1/9", "is a link-local address with a prefix wider than fe80::/10"),
        ("fe80::1%1/64", "is not an IP address with a prefix length"),
    ],
)
def test_what_is_not_an_own_ip6_address(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Addresses).validate_python(text)


@pytest.mark.parametrize(
    "text", ["2001:db8::/127", "2001:db8::/128", "2001:db8::1/0", "FE80::1/10", "1::10.0.0.1/96"]
)
def test_what_is_an_own_ip6_address(text: str) -> None:
    assert TypeAdapter(Addresses).validate_python(text) == (IPv6Interface(text),)


def test_a_port_has_one_link_local_address_of_its_own() -> None:
    adapter = TypeAdapter(Addresses)
    assert len(adapter.validate_python(["fe80::1/64", "2001:db8::1/64", "2001:db8::2/64"])) == 3
    with pytest.raises(ValidationError, match="has more than one link-local address"):
        adapter.validate_python(["fe80::1/64", "fe80::2/64"])


def test_what_is_link_local() -> None:
    assert is_link_local(IPv6Address("fe80::1"))
    assert is_link_local(IPv6Address("febf::1"))
    assert not is_link_local(IPv6Address("fec0::1"))
    assert not is_link_local(IPv4Address("169.254.0.1"))


def test_a_tag_is_an_ethertype_and_an_id() -> None:
    adapter: TypeAdapter[int] = TypeAdapter(Tag)
    assert adapter.validate_python(4094) == 0x8100_0FFE
    assert adapter.validate_python("dot1q:1") == 0x8100_0001
    assert adapter.validate_python("dot1ad:100") == 0x88A8_0064
    for wrong in (0, 4095, -1, True, 1.0, "100", "dot1q:", "dot1q:4095", "dot1ad:0", None, []):
        with pytest.raises(ValidationError, match="is not a tag"):
            adapter.validate_python(wrong)


def test_a_file_has_to_exist(tmp_path: Path) -> None:
    adapter = TypeAdapter(ExistingFile)
    with pytest.raises(ValidationError, match="is not a file that exists"):
        adapter.validate_python("r.txt", context={"base": tmp_path})
    (tmp_path / "r.txt").touch()
    assert adapter.validate_python("r.txt", context={"base": tmp_path}) == tmp_path / "r.txt"


def test_a_prefix_with_host_bits_gets_a_suggestion() -> None:
    with pytest.raises(ValidationError, match=r'did you mean "10\.1\.0\.0/16"'):
        TypeAdapter(Prefix).validate_python("10.1.2.3/16")
    with pytest.raises(ValidationError, match=r'did you mean "2001:db8::/32"'):
        TypeAdapter(Prefix).validate_python("2001:db8::1/32")
    same = TypeAdapter(Prefix).validate_python("2001:DB8:0:0::/32")
    assert same == IPv6Network("2001:db8::/32")


def test_a_relative_path_counts_from_the_base() -> None:
    adapter = TypeAdapter(OptionalPath)
    base = {"base": Path("/etc/vf")}
    assert adapter.validate_python("a/b.pcap", context=base) == Path("/etc/vf/a/b.pcap")
    assert adapter.validate_python("/a", context=base) == Path("/a")
    assert adapter.validate_python("a") == Path("a")


@pytest.mark.parametrize("text", ["", "a\0b", "\ud800", "a/\udc80"])
def test_what_is_no_path(text: str) -> None:
    """JSON can say half a character: no file has it in its name, and no answer can repeat it."""
    with pytest.raises(ValidationError, match="is not a path"):
        TypeAdapter(OptionalPath).validate_python(text)
