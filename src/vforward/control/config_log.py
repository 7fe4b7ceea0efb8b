# SPDX-License-Identifier: Apache-2.0
"""The model of [log]: how the daemon's log looks, and what stands in it."""

from typing import Annotated, Literal

from vforward.control.config_types import Model, says


class Log(Model):
    """The daemon's log, on standard error."""

    format: Annotated[Literal["text", "json"], says('"text" or "json"')] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        says('"debug", "info", "warning" or "error"'),
    ] = "warning"
