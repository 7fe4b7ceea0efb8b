# SPDX-License-Identifier: Apache-2.0
"""What is raised where something is asked for by a name that nothing has. The API answers 404.

A KeyError of any other kind is a fault of the forwarder's own.
"""

from vforward.errors import VforwardError


class NotFound(VforwardError, KeyError):
    """There is no such thing; the message says which there are, or how to see them."""

    __str__ = Exception.__str__  # KeyError's is of repr
