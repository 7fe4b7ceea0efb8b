# SPDX-License-Identifier: Apache-2.0
"""What is not there is said in words, and may be caught as of any mapping."""

import pytest

from vforward.control.not_found import NotFound
from vforward.errors import VforwardError


@pytest.mark.parametrize("kind", [NotFound, VforwardError, KeyError])
def test_it_is_said_in_words(kind):
    with pytest.raises(kind) as caught:
        raise NotFound("no port 'lan'")
    assert str(caught.value) == "no port 'lan'"
