# SPDX-License-Identifier: Apache-2.0
"""The keys of [privilege]."""

from typing import get_args

import pytest

from configs import BARE, message, refusal
from vforward.control.config import parse
from vforward.control.config_privilege import Capability, Privilege
from vforward.io.capabilities import NUMBERS

NAMES = 'a list of "net_admin", "net_raw", "net_bind_service", "bpf", "ipc_lock", "dac_override", '
NAMES += '"sys_admin"'


def test_defaults_and_values():
    assert parse(BARE, "r.toml").privilege == Privilege(keep=None, seccomp="auto")
    found = parse(BARE + '[privilege]\nkeep = []\nseccomp = "require"\n', "r.toml").privilege
    assert found == Privilege(keep=(), seccomp="require")
    found = parse(BARE + '[privilege]\nkeep = ["bpf", "net_raw"]\n', "r.toml").privilege
    assert found.keep == ("bpf", "net_raw")


def test_each_capability_is_known_and_named():
    assert set(get_args(Capability)) == set(NUMBERS)
    assert all(f'"{name}"' in NAMES for name in NUMBERS)


@pytest.mark.parametrize(
    ("key", "value", "what", "allowed"),
    [
        ("seccomp", '"on"', "is not one of the choices", '"auto", "require" or "off"'),
        ("keep", '"net_raw"', "is not a list", NAMES),
    ],
)
def test_wrong_values(key, value, what, allowed):
    (line,) = refusal(BARE + f"[privilege]\n{key} = {value}\n")
    assert line == message(f"4: privilege.{key}", what, value, allowed)


def test_a_capability_that_nothing_needs_is_refused():
    (line,) = refusal(BARE + '[privilege]\nkeep = ["net_raw", "sys_module"]\n')
    assert line.startswith("r.toml:4: privilege.keep[1]: is not one of the choices")
