"""To which addresses a hook's URL may lead.

Laws:

- Link-local addresses are never connected to: at 169.254.169.254 a cloud gives keys to whoever asks. Nor are the other
  addresses at which clouds do so, nor addresses of many machines, or of none. This holds in whatever form an address
  comes: an IPv4 address within an IPv6 one counts as itself.
- Loopback and private addresses are connected to only for a hook with `private`. So are public ones at which a cloud
  serves its own machines.
"""

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final

_Address = IPv4Address | IPv6Address

_NEVER: Final = tuple(
    map(
        ip_network,
        (
            *("0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
            *("::/128", "fe80::/10", "fec0::/10", "ff00::/8"),
        ),
    )
)
_METADATA: Final = frozenset(map(ip_address, ("fd00:ec2::254", "fd20:ce::254", "100.100.100.200")))
"""Where clouds give keys, beside the link-local addresses: AWS and Google over IPv6, Alibaba."""
_OF_CLOUDS: Final = frozenset(map(ip_address, ("168.63.129.16", "192.0.0.192")))
"""Where clouds serve their own machines, though `ipaddress` calls these global: Azure, and Oracle in its early form."""
_ISATAP: Final = frozenset((0x00005EFE, 0x02005EFE))
"""What stands before the IPv4 address at the end of an IPv6 address of ISATAP (RFC 5214)."""
_EMBEDDED: Final = tuple(map(ip_network, ("::/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")))
"""Networks in whose addresses the last four bytes are an IPv4 address, beside the mapped ones."""


def look_up(host: str, port: int) -> tuple[str, ...]:
    """Return the addresses of a host, in the order of the system; OSError if there are none."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return tuple(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


def refusal(address: str, *, private: bool) -> str | None:
    """Return why nobody may connect to this address; None if one may."""
    for one in _forms(ip_address(address)):
        if any(one.version == network.version and one in network for network in _NEVER):
            return "is link-local, or not the address of one machine"
        if one in _METADATA:
            return "is one at which a cloud gives out keys"
        if not private and (not one.is_global or one in _OF_CLOUDS):
            return "is not public: such a hook needs private = true"
    return None


def _forms(address: _Address) -> Iterator[_Address]:
    """The address, and the IPv4 addresses to which it can lead."""
    if isinstance(address, IPv4Address):
        yield address
        return
    if address.ipv4_mapped is not None:
        # The system connects to this one.
        yield address.ipv4_mapped
        return
    yield address
    if address.sixtofour is not None:
        yield address.sixtofour
    if address.teredo is not None:
        yield from address.teredo
    is_isatap = int(address) >> 32 & 0xFFFFFFFF in _ISATAP
    if is_isatap or (int(address) > 1 and any(address in network for network in _EMBEDDED)):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
