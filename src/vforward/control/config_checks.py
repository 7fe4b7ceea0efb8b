# SPDX-License-Identifier: Apache-2.0
"""What must hold between the parts of a configuration: each check yields the problems it finds."""

from collections.abc import Iterator

from vforward.control.config_checks_addresses import check_addresses
from vforward.control.config_checks_bridges import check_bridges
from vforward.control.config_checks_firewall import check_firewall
from vforward.control.config_checks_ports import check_ports
from vforward.control.config_checks_routes import check_routes
from vforward.control.config_draft import Draft
from vforward.control.config_errors import Problem


def check(draft: Draft) -> Iterator[Problem]:
    """Find what is wrong between the parts."""
    yield from check_ports(draft)
    yield from check_addresses(draft)
    yield from check_bridges(draft)
    yield from check_routes(draft)
    yield from check_firewall(draft)
