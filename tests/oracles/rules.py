"""Rule lists: the first row that a packet matches, by trying one after another.

A row is a dict of what it asks for: "src", "dst", "kind", "place", "vlan" are (value, mask), "sport",
"dport" (least, greatest); what is not in it may be anything. A packet is a dict of integers.
"""

NONE = 0xFFFFFFFF


def matches(row, packet):
    """Whether a packet is what a row asks for."""
    for name, (first, second) in row.items():
        value = packet[name]
        if name in ("sport", "dport"):
            if not first <= value <= second:
                return False
        elif value & second != first & second:
            return False
    return True


def classify(rows, packet):
    """The number of the first row that matches, or NONE."""
    for number, row in enumerate(rows):
        if matches(row, packet):
            return number
    return NONE
