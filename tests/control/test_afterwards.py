# SPDX-License-Identifier: Apache-2.0
"""What fails when a change is in force is said, and stops nothing; before that it is raised."""

import pytest

from vforward.control.afterwards import afterwards
from vforward.errors import ArenaError


def test_what_fails_is_said_and_others_go_on(caplog):
    done = []
    for error in (ArenaError("no room"), KeyError("x"), None):
        with afterwards("publishing it"):
            if error is not None:
                raise error
            done.append("the last")
    assert done == ["the last"]
    room, fault = caplog.records
    assert room.getMessage() == "the change is in force, but publishing it failed: no room"
    assert room.exc_info is None
    assert fault.exc_info[0] is KeyError


def test_before_that_it_is_raised(caplog):
    with pytest.raises(ArenaError), afterwards("publishing it", lambda: False):
        raise ArenaError("no room")
    with pytest.raises(KeyboardInterrupt), afterwards("publishing it"):
        raise KeyboardInterrupt
    assert not caplog.records
