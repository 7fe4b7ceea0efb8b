# SPDX-License-Identifier: Apache-2.0
"""Numbers of one process in another's, by name."""

import json
import subprocess
import sys

import pytest

from vforward.control import rules as r
from vforward.control.forwarder import Forwarder
from vforward.control.numbers import MOST, Numbers, document, parsed, text_of, translation
from vforward.control.rule_policy import keys_of
from vforward.errors import ArenaError
from vforward.io.memory import MemoryPort

RULES = (
    r.Rule(action="permit", name="web", to_ports=80, protocol="tcp"),
    r.Rule(action="deny", from_="10.0.0.0/8"),
    r.Rule(action="deny", from_="10.0.0.0/8"),
    r.Rule(action="permit", sessions=9, mark="ef", police="gold"),
)
GOOD = {
    "ports": {"lan": 1}, "vrfs": {"default": 0}, "bridges": {}, "policers": {"gold": 1},
    "rules": {"Rule web": [1, 0]}, "treatments": [[1, 46, "gold"]],
}  # fmt: skip


def test_all_that_there_is_has_its_number(tmp_path, monkeypatch):
    monkeypatch.setenv("VFORWARD_RUNTIME_DIR", str(tmp_path))
    with Forwarder("numbers", buffers=1024) as forwarder:
        forwarder.add_port("lan", MemoryPort(), "10.0.1.1/24", vrf="red")
        forwarder.add_port("wan", MemoryPort(), "10.0.2.1/24")
        forwarder.add_port("sw", MemoryPort())
        forwarder.add_bridge("b")
        forwarder.add_to_bridge("b", "sw")
        forwarder.set_firewall(r.FirewallSettings(default="deny", sessions=1023))
        forwarder.firewall.change(
            rules=RULES,
            nat=[r.Masquerade(out="wan")],
            policers={"gold": r.Policer(rate=1000, burst=64)},
        )
        forwarder.build()
        found = parsed(json.loads(json.dumps(document(forwarder, forwarder.firewall.numbers()))))
    assert found.ports == {"lan": 1, "wan": 2, "sw": 3}
    assert found.vrfs == {"default": 0, "red": 1}
    assert found.bridges == {"b": 1}
    assert found.policers == {"gold": 1}
    assert found.treatments == ((1, 46, "gold"),)
    assert found.rules["Rule web"] == (1, 0)
    assert sorted(hits for hits, _ in found.rules.values()) == [1, 2, 3, 4, 5]
    assert sorted(limit for _, limit in found.rules.values()) == [0, 0, 0, 0, 1]


def test_a_rule_has_the_same_text_in_each_process():
    code = (
        "from vforward.control import rules as r; from vforward.control.rule_policy import keys_of;"
        "from vforward.control.numbers import text_of;"
        "print([text_of(k) for k in keys_of([r.Rule(action='deny', from_='10.0.0.0/8', to='@x')])])"
    )
    said = {subprocess.check_output([sys.executable, "-c", code], text=True) for _ in range(2)}
    assert len(said) == 1
    texts = [text_of(key) for key in keys_of(RULES)]
    assert len(set(texts)) == len(texts)
    assert texts[0] == "Rule web"


def test_translation():
    old, new = {"a": 1, "b": 2, "c": 3, "far": 99}, {"a": 7, "c": 3, "d": 2}
    assert translation(old, new, 5).tolist() == [-1, 7, -1, 3, -1]
    assert translation(old, new, 5, 0).tolist() == [0, 7, 0, 3, 0]


def test_what_is_right_is_read():
    assert parsed(GOOD) == Numbers(
        {"lan": 1}, {"default": 0}, {}, {"gold": 1}, {"Rule web": (1, 0)}, ((1, 46, "gold"),)
    )


@pytest.mark.parametrize(
    "wrong",
    [
        None, 7, [], {}, "x", {**GOOD, "ports": []}, {**GOOD, "ports": {"lan": -1}},
        {**GOOD, "ports": {"lan": "1"}}, {**GOOD, "vrfs": {"a": MOST}}, {**GOOD, "rules": {"a": 1}},
        {**GOOD, "rules": {"a": [1, 2, 3]}}, {**GOOD, "treatments": [[1]]}, {**GOOD, "treatments": 7},
        {**GOOD, "policers": {"a": True}}, {**GOOD, "bridges": {"a": None}}, {**GOOD, "rules": []},
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused(wrong):
    with pytest.raises(ArenaError, match="'numbers' of the last process"):
        parsed(wrong)
