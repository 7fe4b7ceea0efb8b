# SPDX-License-Identifier: Apache-2.0
"""Calls that are answered on the Unix socket alone, which only the forwarder's user can reach.

They can be used to do what that user can: to run code, to read and write files. He does that anyway. By
TCP a token that leaks, or is overheard, would otherwise be a shell on the machine.
"""

from typing import Any

from fastapi import Depends, HTTPException, Request

from vforward.control.api_guard import BY_TCP


def local(why: str) -> Any:
    """A dependency of such a call: by TCP it is refused (403), before its body is checked. why: as said."""

    def refuse(request: Request) -> None:
        if request.scope.get(BY_TCP):
            raise HTTPException(403, f"{why}: by the Unix socket only")

    return Depends(refuse)
