# SPDX-License-Identifier: Apache-2.0
"""The client's calls that bring a configuration in force, or a part of one. A part of Client."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from vforward.errors import ConfigError

APPLY_S = 600.0
"""How much longer a configuration may take: rules are compiled, and files of routes read."""


class ConfigCalls:
    """See the module."""

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, Any] | None = None,
        body: Any = None,
        wait_s: float = 0.0,
    ) -> Any:
        raise NotImplementedError

    def apply(
        self,
        file: str | os.PathLike[str],
        *,
        dry_run: bool = False,
        exact: bool = False,
        skip_restart: bool = False,
    ) -> dict[str, Any]:
        """Bring a configuration file in force: what differs, at one moment; or only say what would.

        exact: undo what was changed at run time, too. skip_restart: leave what needs a restart as it is.
        Returns applied, changes (each with kind, what, before, after, restart), routes_of_files, kept,
        left, stood_ms, workers_stood_ms.
        """
        path = pathlib.Path(file)
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or error
            raise ConfigError(f"{path}: cannot be read: {what}") from error
        wish = {"text": text, "file": str(path.absolute())}
        wish |= {"dry_run": dry_run, "exact": exact, "skip_restart": skip_restart}  # type: ignore[dict-item]
        return dict(self._ask("POST", "/configuration", body=wish, wait_s=APPLY_S))

    def add_port(self, name: str, **port: Any) -> dict[str, Any]:
        """Add a port. port: keys of [ports.NAME]. Returns what apply does."""
        at = f"/ports/{quote(name, safe='')}"
        return dict(self._ask("PUT", at, body=said(port), wait_s=APPLY_S))

    def delete_port(self, name: str) -> dict[str, Any]:
        """Delete a port that nothing of the configuration needs. Returns what apply does."""
        return dict(self._ask("DELETE", f"/ports/{quote(name, safe='')}", wait_s=APPLY_S))

    def move_queue(self, port: str, worker: int, queue: int = 0) -> None:
        """Let another worker poll a receive queue of a port."""
        at = f"/ports/{quote(port, safe='')}/queues/{queue}"
        self._ask("PUT", at, body={"worker": worker})


def said(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was given at all."""
    return {key: value for key, value in given.items() if value is not None}
