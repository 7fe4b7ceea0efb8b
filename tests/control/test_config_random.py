# SPDX-License-Identifier: Apache-2.0
"""Whatever a file says, it loads or is refused with lines that name file, line and key."""

import contextlib
import json
import re
import tomllib

from hypothesis import given
from hypothesis import strategies as st

from configs import GOOD, toml
from vforward.control.config import Config, parse
from vforward.errors import ConfigError

WORDS = st.sampled_from(
    sorted(set(re.findall(r"[a-z_]+", GOOD)) | {"", "a b", "10.0.1.1/24", "10.0.2.1", "lan0.7"})
)
LEAVES = (
    st.integers()
    | st.floats()
    | st.booleans()
    | WORDS
    | st.text('aé\n\t\0"\\\u2028 .=[]#', max_size=20)
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


def refuses_or_loads(data):
    text = "".join(f"{json.dumps(key)} = {toml(value)}\n" for key, value in data.items())
    tomllib.loads(text)
    try:
        assert isinstance(parse(text, "r.toml"), Config)
    except ConfigError as error:
        for line in str(error).split("\n"):
            assert re.fullmatch(r"r\.toml:\d+: .+ \(got .+\); allowed: .+", line), line


@given(st.dictionaries(st.sampled_from(sorted(Config.model_fields)), VALUES))
def test_random_tables_raise_nothing_but_config_error(data):
    refuses_or_loads(data)


@given(st.data())
def test_a_good_file_with_random_places_changed_raises_nothing_but_config_error(
    data,
):
    raw = tomllib.loads(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        at = raw
        while True:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = data.draw(st.sampled_from(keys)) if keys else "new"
            if not keys or not isinstance(at[key], dict | list) or data.draw(st.booleans()):
                break
            at = at[key]
        if keys or isinstance(at, dict):
            at[key] = data.draw(VALUES)
    refuses_or_loads(raw)


@given(st.text())
def test_random_text_raises_nothing_but_config_error(text):
    with contextlib.suppress(ConfigError):
        parse(text, "r.toml")
