# SPDX-License-Identifier: Apache-2.0
"""TCP conversations with segments that are out of place, as nft_tcp reads them."""

from e2e.nft_talks import OPEN

ODD = {
    "a reset far from the window": OPEN + """
        > PA 1:11 ack 1
        < A 1 ack 11
        < R 1000000 = drop
        > R 1000000 = drop
        < R -1000000 = drop
        < RA 2000000 ack 11 = drop
        > PA 11:21 ack 1
        < A 1 ack 21
    """,
    "a reset in the window, but not next": OPEN + """
        > PA 1:11 ack 1
        < A 1 ack 11
        < R 500
        > PA 11:21 ack 1
        < A 1 ack 21
    """,
    "a reset while it opens, of something else": """
        > S 0
        < RA 0 ack 777 = drop
        < SA 0 ack 1
        > A 1 ack 1
    """,
    "a reset while it opens, that acknowledges nothing": """
        > S 0
        < R 0
        < SA 0 ack 1 = drop
        > A 1 ack 1 = drop
    """,
    "data out of the window": OPEN + """
        > PA 1:101 ack 1
        < A 1 ack 101
        > PA 200000:200100 ack 1 = drop
        < PA 200000:200100 ack 101 = drop
        > PA -200000:-199900 ack 1
        < PA -200000:-199900 ack 101
        < PA 1:101 ack 101
        > A 101 ack 101
    """,
    "data to the window's end, and beyond": """
        > S 0 win 1000
        < SA 0 ack 1 win 1000
        > A 1 ack 1 win 1000
        > PA 1:1001 ack 1 win 1000
        > PA 1001:1002 ack 1 win 1000
        > PA 1999:2000 ack 1 win 1000
        > PA 2001:2002 ack 1 win 1000 = drop
        < PA 1:1001 ack 1 win 1000
        < PA 2001:2011 ack 1 win 1000 = drop
    """,
    "an acknowledgment of what was never sent": OPEN + """
        > PA 1:11 ack 1
        < A 1 ack 100000 = drop
        > A 11 ack 5000 = drop
        < A 1 ack 11
        > A 11 ack 1
    """,
    "an acknowledgment that is very old": OPEN + """
        > PA 1:11 ack 1
        < A 1 ack 11
        < A 1 ack -100000
        < A 1 ack 1
    """,
    "a SYN's own window has no scale": """
        > S 0 scale 7
        < SA 0 ack 1 scale 7
        > A 1 ack 1 win 512
        < A 1 ack 1 win 512
        > PA 700000:700100 ack 1 win 512 = drop
        < PA 700000:700100 ack 1 win 512 = drop
    """,
    "a scale that the other has not": """
        > S 0 scale 7
        < SA 0 ack 1
        > A 1 ack 1 win 4096
        < A 1 ack 1 win 4096
        > PA 200001:200101 ack 1 win 4096 = drop
        < PA 200001:200101 ack 1 win 4096 = drop
        > PA 3097:4097 ack 1 win 4096
    """,
    "a scale of more than 14 is 14": """
        > S 0 win 8 scale 15
        < SA 0 ack 1 win 8 scale 15
        > A 1 ack 1 win 8
        < A 1 ack 1 win 8
        > PA 131000:131073 ack 1 win 8
        > PA 300001:300002 ack 1 win 8 = drop
    """,
    "no session: ACK": "> A 1 ack 1 = drop",
    "no session: data": "> PA 1:11 ack 1 = drop",
    "no session: SYN and ACK": "> SA 0 ack 1 = drop",
    "no session: FIN and ACK": "> FA 1 ack 1 = drop",
    "no session: FIN": "> F 1 = drop",
    "no session: RST": "> R 1 = drop",
    "no session: no flag": "> - 1 = drop",
    "no session: XMAS": "> FPU 1 = drop",
    "no session: all flags": "> FSRPAU 1 ack 1 = drop",
    "no session: SYN and FIN": "> SF 0 = drop",
    "no session: SYN and RST": "> SR 0 = drop",
    "no session: SYN with ECN": """
        > SEC 0
        < SAE 0 ack 1
        > A 1 ack 1
    """,
    "no session: SYN and PSH": """
        > SP 0
        < SA 0 ack 1
    """,
    "no session: SYN and URG": """
        > SU 0
        < SA 0 ack 1
    """,
    "from where no rule permits": """
        < S 0 = drop
        < SA 0 ack 1 = drop
        > SA 0 ack 1 = drop
    """,
    "flags that cannot be, in a session": OPEN + """
        > - 1 = drop
        > FPU 1 = drop
        > F 1 = drop
        > P 1:11 = drop
        > SF 1 = drop
        < SR 1 = drop
        < FSRPAU 1 ack 1 = drop
        > PA 1:11 ack 1
        < A 1 ack 11
    """,
    "SYN in a session": OPEN + """
        > PA 1:11 ack 1
        < A 1 ack 11
        > S 5000000
        < A 1 ack 11
        > R 11
    """,
    "SYN in a session, from the responder": OPEN + """
        > PA 1:11 ack 1
        < A 1 ack 11
        < S 3000000 = drop
        > PA 11:21 ack 1
        < A 1 ack 21
    """,
    "SYN and ACK in a session": OPEN + """
        > PA 1:11 ack 1
        < SA 0 ack 1
        < SA 4000000 ack 11
        > SA 4000000 ack 1 = drop
        < A 1 ack 11
    """,
    "half open: the initiator has forgotten, the responder not": """
        > S 0
        < A 777777 ack 888888
        > R 888888
        > S 0
        < SA 0 ack 1
        > A 1 ack 1
    """,
    "half open: the initiator begins anew": """
        > S 0
        > S 2000000
        < SA 0 ack 2000001
        > A 2000001 ack 1
    """,
    "half open: only the first segment": "> S 0",
    "SYN and ACK of another number": """
        > S 0
        < SA 0 ack 5 = drop
        < SA 0 ack 1
        > A 1 ack 1
    """,
    "data before the answer": """
        > S 0
        > PA 1:11 ack 0 = drop
        < PA 1:11 ack 1
        < SA 0 ack 1
    """,
    "FIN before the answer": """
        > S 0
        > FA 1 ack 1 = drop
        < FA 0 ack 1 = drop
    """,
    "data after the close": OPEN + """
        > FA 1 ack 1
        < FA 1 ack 2
        > A 2 ack 2
        > PA 2:12 ack 2
        < PA 2:12 ack 2
    """,
    "data after a reset": OPEN + """
        > R 1
        > PA 1:11 ack 1
        < PA 1:11 ack 1
    """,
    "FIN out of the window": OPEN + """
        > FA 1000000 ack 1 = drop
        < FA 1000000 ack 1 = drop
        > PA 1:11 ack 1
        < A 1 ack 11
    """,
    "a wrong checksum": """
        > S 0 bad = drop
        > S 0
        < SA 0 ack 1
        > A 1 ack 1
        < PA 1:11 ack 1 bad = drop
    """,
}  # fmt: skip
