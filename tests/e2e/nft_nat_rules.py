# SPDX-License-Identifier: Apache-2.0
"""The rules of nft_nat, in both languages."""

NFT = """
table ip firewall {
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        ip daddr 10.3.0.80 tcp dport 443 reject with tcp reset
        iifname lan ct state new accept
        iifname dmz ct state new accept
        ip daddr 10.3.0.0/16 ct state new accept
    }
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        icmp type echo-request ct state new accept
    }
}
table ip nat {
    chain prerouting {
        type nat hook prerouting priority dstnat; policy accept;
        ip daddr 203.0.113.80 tcp dport 8080 dnat to 10.3.0.80:80
        ip daddr 203.0.113.80 tcp dport 8443 dnat to 10.3.0.80:443
        ip daddr 203.0.113.80 udp dport 8000-8003 dnat to 10.3.0.81
        ip daddr 203.0.113.81 tcp dport 8080 dnat to 10.1.0.80:80
        iifname wan dnat ip prefix to ip daddr map { 203.0.113.32/29 : 10.3.0.32/29 }
    }
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        iifname lan oifname lan ct status dnat snat to 203.0.113.81
        oifname wan snat ip prefix to ip saddr map { 10.3.0.32/29 : 203.0.113.32/29 }
        oifname wan ip saddr 10.1.5.0/24 meta l4proto { tcp, udp } goto pool
        oifname wan ip saddr 10.1.0.0/16 meta l4proto { tcp, udp } masquerade to :1024-65535
        oifname wan ip saddr 10.1.0.0/16 masquerade
    }
    chain pool {
        meta l4proto { tcp, udp } snat to 203.0.113.10-203.0.113.11:2000-2003 persistent
    }
}
"""
TOML = """
[firewall]
default = "deny"
[[rules]]
name = "no-tls"
action = "reject"
protocol = "tcp"
to = "10.3.0.80"
to_ports = 443
[[rules]]
name = "from-inside"
action = "permit"
in = ["lan", "dmz"]
[[rules]]
name = "servers"
action = "permit"
to = "10.3.0.0/16"
[[rules]]
name = "ping"
action = "permit"
protocol = "icmp"
icmp = "echo-request"
out = "self"
[[nat]]
type = "destination"
protocol = "tcp"
to = "203.0.113.80"
to_ports = 8080
new = "10.3.0.80"
new_port = 80
[[nat]]
type = "destination"
protocol = "tcp"
to = "203.0.113.80"
to_ports = 8443
new = "10.3.0.80"
new_port = 443
[[nat]]
type = "destination"
protocol = "udp"
to = "203.0.113.80"
to_ports = "8000-8003"
new = "10.3.0.81"
[[nat]]
type = "destination"
protocol = "tcp"
to = "203.0.113.81"
to_ports = 8080
new = "10.1.0.80"
new_port = 80
[[nat]]
type = "static"
inside = "10.3.0.32/29"
outside = "203.0.113.32/29"
port = "wan"
[[nat]]
type = "source"
pool = "203.0.113.10-203.0.113.11"
ports = "2000-2003"
from = "10.1.5.0/24"
out = "wan"
[[nat]]
type = "masquerade"
out = "wan"
from = "10.1.0.0/16"
"""
