# SPDX-License-Identifier: Apache-2.0
"""TCP conversations as hosts have them, as nft_tcp reads them, with what Linux lets pass of each."""

OPEN = """
> S 0
< SA 0 ack 1
> A 1 ack 1
"""

USUAL = {
    "the initiator closes first": OPEN + """
        > PA 1:101 ack 1
        < A 1 ack 101
        < PA 1:1001 ack 101
        > A 101 ack 1001
        > FA 101 ack 1001
        < A 1001 ack 102
        < FA 1001 ack 102
        > A 102 ack 1002
        > A 102 ack 1002
        < FA 1001 ack 102
    """,
    "the responder closes first": OPEN + """
        < FA 1 ack 1
        > A 1 ack 2
        > PA 1:51 ack 2
        < A 2 ack 51
        > FA 51 ack 2
        < A 2 ack 52
    """,
    "both close at once": OPEN + """
        > FA 1 ack 1
        < FA 1 ack 1
        > A 2 ack 2
        < A 2 ack 2
    """,
    "FIN and ACK in one segment": OPEN + """
        > FA 1 ack 1
        < FA 1 ack 2
        > A 2 ack 2
    """,
    "data flow to who has closed": OPEN + """
        > FA 1 ack 1
        < A 1 ack 2
        < PA 1:1401 ack 2
        > A 2 ack 1401
        < FA 1401 ack 2
        > A 2 ack 1402
    """,
    "FIN with data": OPEN + """
        > FPA 1:101 ack 1
        < A 1 ack 102
        < FPA 1:201 ack 102
        > A 102 ack 202
    """,
    "both open at once": """
        > S 0
        < S 0
        > SA 0 ack 1
        < SA 0 ack 1
        > PA 1:11 ack 1
        < PA 1:11 ack 11
        > A 11 ack 11
    """,
    "all is sent twice": """
        > S 0
        > S 0
        < SA 0 ack 1
        < SA 0 ack 1
        > A 1 ack 1
        > PA 1:101 ack 1
        > PA 1:101 ack 1
        < A 1 ack 101
        < A 1 ack 101
        > PA 1:101 ack 1
        > FA 101 ack 1
        > FA 101 ack 1
        < FA 1 ack 102
        < FA 1 ack 102
        > A 102 ack 2
        > A 102 ack 2
    """,
    "the third segment is lost": """
        > S 0
        < SA 0 ack 1
        > PA 1:101 ack 1
        < A 1 ack 101
    """,
    "the responder speaks first": OPEN + """
        < PA 1:31 ack 1
        > A 1 ack 31
    """,
    "data on the first segment": """
        > S 0:10
        < SA 0 ack 11
        > A 11 ack 1
        < PA 1:10 ack 11
    """,
    "nobody listens": """
        > S 0
        < RA 0 ack 1
    """,
    "nobody listens, asked again": """
        > S 0
        < RA 0 ack 1
        > S 1000
        < SA 500 ack 1001
        > A 1001 ack 501
    """,
    "a reset by the initiator": OPEN + """
        > PA 1:11 ack 1
        < A 1 ack 11
        > R 11
    """,
    "a reset by the responder": OPEN + """
        > PA 1:11 ack 1
        < RA 1 ack 11
    """,
    "keep-alives": OPEN + """
        > A 0 ack 1
        < A 1 ack 1
        > A 0:1 ack 1
        < A 1 ack 1
        < A 0 ack 1
        > A 1 ack 1
    """,
    "a window of nothing, and probes": OPEN + """
        > PA 1:101 ack 1
        < A 1 ack 101 win 0
        > A 101:102 ack 1
        < A 1 ack 101 win 0
        < A 1 ack 102 win 65535
        > PA 102:202 ack 1
    """,
    "windows with a scale": """
        > S 0 win 4096 scale 7
        < SA 0 ack 1 win 4096 scale 7
        > A 1 ack 1 win 4096
        < A 1 ack 1 win 4096
        > PA 200001:200101 ack 1 win 4096
        > PA 524188:524289 ack 1 win 4096
        > PA 1100000:1100100 ack 1 win 4096 = drop
        < PA 300001:300101 ack 1 win 4096
        < PA 1100001:1100101 ack 1 win 4096 = drop
    """,
    "the third segment acknowledges something else": """
        > S 0
        < SA 0 ack 1
        > A 1 ack 90000 = drop
        > A 1 ack 1
    """,
    "the ports again, after the close": OPEN + """
        > FA 1 ack 1
        < FA 1 ack 2
        > A 2 ack 2
        > S 7000000
        < SA 9000000 ack 7000001
        > A 7000001 ack 9000001
        > PA 7000001:7000101 ack 9000001
        < A 9000001 ack 7000101
    """,
    "the ports again, with a lower number": OPEN + """
        > FA 1 ack 1
        < FA 1 ack 2
        > A 2 ack 2
        > S -7000000
        < SA -9000000 ack -6999999
        > A -6999999 ack -8999999
    """,
    "the ports again, after a reset": OPEN + """
        > R 1
        > S 7000000
        < SA 9000000 ack 7000001
        > A 7000001 ack 9000001
    """,
    "the ports again, the other way round": OPEN + """
        > FA 1 ack 1
        < FA 1 ack 2
        > A 2 ack 2
        < S 9000000 = drop
    """,
    "selective acknowledgments": """
        > S 0 sackok
        < SA 0 ack 1 sackok
        > A 1 ack 1
        > PA 101:201 ack 1
        < A 1 ack 1 sack 101:201
        > PA 1:101 ack 1
        < A 1 ack 201
    """,
}  # fmt: skip
