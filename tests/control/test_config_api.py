# SPDX-License-Identifier: Apache-2.0
"""The keys of [api]."""

import pytest

from configs import BARE, refusal
from vforward.control.config import parse
from vforward.control.config_api import Listen, read_token

LISTEN_SAYS = 'allowed: an address and a port like "127.0.0.1:8080" or "[::1]:8080"'
TOKEN = "0123456789abcdef"


@pytest.fixture
def token(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "\n")
    file.chmod(0o600)
    return file


def api(listen, token):
    return BARE + f'[api]\nlisten = "{listen}"\ntoken_file = "{token}"\n'


def test_nowhere_by_default():
    found = parse(BARE, "r.toml").api
    assert (found.listen, found.token_file) == (None, None)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("127.0.0.1:8080", Listen("127.0.0.1", 8080)),
        ("[::1]:1", Listen("::1", 1)),
        ("0.0.0.0:65535", Listen("0.0.0.0", 65535)),
    ],
)
def test_addresses(token, text, wanted):
    found = parse(api(text, token), "r.toml").api
    assert found.listen == wanted
    assert read_token(found.token_file) == TOKEN


def test_the_token_lies_beside_the_configuration(token):
    file = token.parent / "r.toml"
    assert parse(api("127.0.0.1:1", token.name), str(file)).api.token_file == token


@pytest.mark.parametrize(
    "text",
    ["", "8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "::1:80", "host:80"]
    + ["127.0.0.1:8_0", "127.0.0.1:-1", "[127.0.0.1]:80", "127.0.0.1:\u0664", "[::1%eth0]:80x"],
)
def test_wrong_addresses(token, text):
    (line,) = refusal(api(text, token))
    assert "api.listen: is not an address and a port" in line
    assert line.endswith(LISTEN_SAYS)


def test_an_address_of_another_type(token):
    (line,) = refusal(BARE + f'[api]\nlisten = 8080\ntoken_file = "{token}"\n')
    assert "api.listen: is not an address and a port (got 8080)" in line


def test_tcp_takes_a_token():
    (line,) = refusal(BARE + '[api]\nlisten = "127.0.0.1:8080"\n')
    assert "api.token_file: is missing: by TCP each request has to say a token" in line


@pytest.mark.parametrize(
    ("content", "mode", "what"),
    [
        (TOKEN, 0o640, "may be read by others: chmod 600"),
        (TOKEN, 0o604, "may be read by others: chmod 600"),
        ("short", 0o600, "has no token that can be used"),
        (TOKEN + " x", 0o600, "has no token that can be used"),
        ("x" * 1025, 0o600, "has no token that can be used"),
        (TOKEN + "\u00e9", 0o600, "cannot be read: it is not ASCII"),
    ],
)
def test_files_that_are_no_secret(token, content, mode, what):
    token.write_text(content)
    token.chmod(mode)
    (line,) = refusal(api("127.0.0.1:8080", token))
    assert f"api.token_file: {what}" in line


def test_a_file_that_is_not_there(tmp_path):
    (line,) = refusal(api("127.0.0.1:8080", tmp_path / "none"))
    assert "api.token_file: cannot be read: No such file or directory" in line
