# SPDX-License-Identifier: Apache-2.0
"""The model of [api]: where the API listens besides its Unix socket."""

import os
import stat
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import AfterValidator, Field, PlainValidator, ValidationInfo

from vforward.control.config_types import Model, OptionalPath, says

TOKEN_MIN, TOKEN_MAX = 16, 1024
_LISTEN_SAYS = says('an address and a port like "127.0.0.1:8080" or "[::1]:8080"')
_TOKEN_SAYS = says(
    f"the path of a file that only its user may read, with a token of {TOKEN_MIN} to {TOKEN_MAX} "
    "visible ASCII characters; a relative one counts from this file's directory"
)


class Listen(NamedTuple):
    """An address to listen at."""

    host: str
    port: int


def _listen(value: object) -> Listen | None:
    if value is None or isinstance(value, Listen):
        return value
    host, _, port = str(value).rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
        number = int(port) if port.isascii() and port.isdigit() else 0
    except ValueError:
        address, number = None, 0
    if address is None or (address.version == 6) != bracketed or not 1 <= number <= 65535:
        msg = "is not an address and a port"
        raise ValueError(msg)
    return Listen(str(address), number)


def _token_file(path: Path | None, info: ValidationInfo) -> Path | None:
    if path is None:
        if info.data.get("listen") is not None:
            msg = "is missing: by TCP each request has to say a token"
            raise ValueError(msg)
        return None
    read_token(path)
    return path


def read_token(path: Path) -> str:
    """The token in a file. Raises ValueError, which says what is wrong with the file."""
    try:
        status = path.stat()
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        msg = f"cannot be read: {getattr(error, 'strerror', None) or 'it is not ASCII'}"
        raise ValueError(msg) from None
    if status.st_uid not in (0, os.geteuid()) or stat.S_IMODE(status.st_mode) & 0o077:
        msg = "may be read by others: chmod 600"
        raise ValueError(msg)
    if not TOKEN_MIN <= len(text) <= TOKEN_MAX or not all("!" <= c <= "~" for c in text):
        msg = "has no token that can be used"
        raise ValueError(msg)
    return text


class Api(Model):
    """Where else the API listens. Without any of this: nowhere."""

    listen: Annotated[Listen | None, PlainValidator(_listen), _LISTEN_SAYS] = None
    token_file: Annotated[
        OptionalPath, AfterValidator(_token_file), _TOKEN_SAYS, Field(validate_default=True)
    ] = None
