# SPDX-License-Identifier: Apache-2.0
"""The dtypes and constants of vforward.io.linux are those of the C headers."""

import numpy as np
import pytest

from vforward.io import linux, shim

STRUCTS = {
    "iovec": linux.IOVEC,
    "msghdr": linux.MSGHDR,
    "mmsghdr": linux.MMSGHDR,
    "cmsghdr": linux.CMSGHDR,
    "pollfd": linux.POLLFD,
    "sockaddr_ll": linux.SOCKADDR_LL,
    "tpacket2_hdr": linux.TPACKET2_HDR,
    "tpacket_auxdata": linux.TPACKET_AUXDATA,
    "virtio_net_hdr": linux.VIRTIO_NET_HDR,
}
CONSTANTS = sorted(
    name for name, value in vars(linux).items() if name.isupper() and isinstance(value, int)
)


@pytest.mark.parametrize("struct", STRUCTS)
def test_dtype_is_the_c_struct(struct):
    dtype: np.dtype = STRUCTS[struct]
    ours = {f"offsetof({struct}, {field})": dtype.fields[field][1] for field in dtype.names}
    ours.pop(f"offsetof({struct}, padding)", None)
    theirs = {
        name: value
        for name, value in shim.constants().items()
        if name.startswith(f"offsetof({struct},")
    }

    assert ours == theirs
    assert dtype.itemsize == shim.constants()[f"sizeof({struct})"]


@pytest.mark.parametrize("name", CONSTANTS)
def test_constant_is_the_c_one(name):
    assert getattr(linux, name) == shim.constants()[name]


def test_there_are_constants_to_check():
    assert "TP_STATUS_USER" in CONSTANTS
