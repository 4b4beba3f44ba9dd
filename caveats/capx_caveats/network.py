"""Constraints on network destinations: URLs, host names, addresses.

Laws: a text is judged only in its one canonical spelling, so that no two programs can disagree on where it leads. Any
other spelling cannot be judged. A name is judged as it is written: the code that connects must check the address that
it resolves to, and where a redirect leads. The work is linear in the text, and bounded.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, NamedTuple

from msgspec import UNSET, Meta, UnsetType

from capx_caveats.constraint import MAX_VALUES, Constraint, Judgement
from capx_caveats.errors import InvalidCaveat
from capx_caveats.names import demand
from capx_caveats.shown_values import shown
from capx_caveats.values import Texts, Value

if TYPE_CHECKING:
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

MAX_URL = 4096
"""The longest URL that can be judged, in characters."""
MAX_HOST = 253
"""The longest host name, in characters, without the trailing dot (RFC 1035, section 2.3.4)."""
MAX_NETWORK = 43
"""The longest network, in characters; no canonical spelling is longer."""

_REMEMBERED = 2 * MAX_VALUES
"""The number of texts whose parsed form is cached: a token can ask about each of many values many times."""

Port = Annotated[int, Meta(ge=1, le=65535)]
"""The type of a field: the number of a TCP port."""

# These stay text. `re` compiles them on first use, so a program that judges no URL starts faster.
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = rf"(?:{_LABEL}\.)*{_LABEL}"
_SCHEME = "[a-z][a-z0-9+.-]{1,31}"
_URL = rf"({_SCHEME})://([a-z0-9.-]+)(?::([1-9][0-9]{{0,4}}))?(/[^?]*)(?:\?(.+))?"
_DISGUISED = (
    "[\x80-\xa0\xad\u034f\u037e\u061c\u115f\u1160\u17b4\u17b5\u180e\u2000-\u200f\u2024-\u202f\u2044\u203d"
    "\u2047-\u2049\u205f-\u206f\u2100\u2101\u2105\u2106\u2215\u2216\u2488-\u249b\u29f5\u29f8\u29f9\u3000\u3002"
    "\u3164\u33c2\u33c7\u33d8\ufe00-\ufe6f\ufeff\uff00-\uffef\U0001f100\U000e0000-\U000e0fff]"
)
"""Characters that are invisible, or that laxer programs read as a dot, a slash or another divider."""

_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HEX = frozenset("0123456789abcdef")
# The characters of RFC 3986, except `;` in a path: some servers drop it and the text after it, others do not.
_IN_PATH = _UNRESERVED | set("!$&'()*+,=:@%/")
_IN_QUERY = _IN_PATH | set("?;")
_ENCODED = {f"{byte:02X}": chr(byte) for byte in range(256) if chr(byte) not in _UNRESERVED}
"""The codes that may follow a `%`: those of bytes that need one (RFC 3986, section 6.2.2)."""
_ENCODED_IN_PATH = {code: byte for code, byte in _ENCODED.items() if byte >= " " and byte not in "%/\\;?#\x7f"}
"""The same without controls, and without bytes that divide a path, or would after a second decoding."""

_OWN_PORTS = {"http": 80, "https": 443}
# Schemes whose URLs have no host, or that run code or wrap another URL.
_HOSTLESS = frozenset({"about", "blob", "data", "file", "filesystem", "jar", "javascript", "vbscript", "view-source"})
_HERE = frozenset(
    {
        "broadcasthost", "ip6-allhosts", "ip6-allnodes", "ip6-allrouters", "ip6-localhost", "ip6-localnet",
        "ip6-loopback", "ip6-mcastprefix", "localdomain", "localdomain4", "localdomain6", "localhost", "localhost4",
        "localhost6", "loopback",
        "containers.internal", "docker.internal", "host.lima.internal", "host.minikube.internal",
        "host.rancher-desktop.internal",
        "localtest.me", "lvh.me", "nip.io", "sslip.io", "vcap.me", "xip.io",
        "api.metadata.cloud.ibm.com", "metadata.goog", "metadata.packet.net", "metadata.platformequinix.com",
        "metadata.tencentyun.com",
    }
)  # fmt: skip
"""Names that lead to this machine, to an address in the name, or to a metadata service; so do all names below."""
_METADATA = frozenset({"instance-data", "metadata", "rancher-metadata"})
_V4_IN_V6 = ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2001::/32", "2002::/16")
"""The IPv6 networks whose addresses contain an IPv4 one: compatible, mapped, translated, NAT64, Teredo, 6to4."""


_READING = 8192
"""The work of reading a URL or an address that was not read before, in the units of `Constraint.work_once`."""
_COMPARISON = 32
"""The work of comparing a name with a pattern."""


class Host(Constraint, frozen=True, tag="host"):
    """The DNS name is one of these or, for `*.x`, is below x. Only names in lower-case ASCII can be judged.

    Addresses cannot be judged, in any spelling, nor can names with a trailing dot or an underscore. Names of this
    machine, such as localhost, are judged like any other name; `url` does not judge them.
    """

    obstacles = {str: "is no host name in lower-case ASCII"}  # noqa: RUF012 # a class variable
    patterns: Texts

    @property
    def work_once(self) -> int:  # type: ignore[override] # the name is read, and compared with each pattern
        return 2048 + _COMPARISON * len(self.patterns)

    def __post_init__(self) -> None:
        for pattern in self.patterns:
            _demand_pattern(pattern)

    def judge(self, value: Value) -> Judgement:
        if not isinstance(value, str) or len(value) > MAX_HOST or not _is_host(value):
            return None
        return _is_one(value, self.patterns)

    def sentence(self) -> str:
        return f"is a host {_or(self.patterns)}"


class Url(Constraint, frozen=True, tag="url"):
    """The URL has one of these schemes, hosts and ports, and its path is this one or below it.

    Without ports, the scheme's own port is needed; only http and https have one. A URL cannot be judged if it is not
    absolute or not in canonical spelling, if it has userinfo, a fragment or a `;` in the path, if its host is an
    address or a name of this machine or of a metadata service, or if its scheme is not http, https or one of these.
    """

    work_character = 8
    obstacles = {str: "is no URL in canonical spelling that leads elsewhere"}  # noqa: RUF012 # a class variable
    schemes: Texts
    hosts: Texts
    ports: tuple[Port, ...]
    path: str | UnsetType = UNSET

    @property
    def work_once(self) -> int:  # type: ignore[override] # as for an address, and its own path is read each time
        own_path = 0 if self.path is UNSET else 16 * len(self.path)
        return _READING + _COMPARISON * (len(self.schemes) + len(self.hosts) + len(self.ports)) + own_path

    def __post_init__(self) -> None:
        for scheme in self.schemes:
            spelled = re.fullmatch(_SCHEME, scheme) is not None
            demand(spelled and scheme not in _HOSTLESS, "a scheme that has hosts, in lower case", scheme)
            if not self.ports and scheme not in _OWN_PORTS:
                raise InvalidCaveat(f"{scheme} has no known port of its own: give the ports")
        for host in self.hosts:
            _demand_pattern(host)
            demand(
                not _leads_here(host), "a host elsewhere: it names this machine, an address or a metadata service", host
            )
        if self.path is not UNSET:
            canonical = _segments(self.path) is not None and (self.path == "/" or not self.path.endswith("/"))
            demand(canonical, "the path of a URL in canonical spelling, without a slash at its end", self.path)

    def judge(self, value: Value) -> Judgement:
        if not isinstance(value, str) or len(value) > MAX_URL or (parts := _parts(value)) is None:
            return None
        own = _OWN_PORTS.get(parts.scheme)
        port = parts.port or own
        if port is None or parts.scheme not in {*_OWN_PORTS, *self.schemes}:
            return None
        return (
            parts.scheme in self.schemes
            and _is_one(parts.host, self.hosts)
            and (port in self.ports if self.ports else port == own)
            and (self.path is UNSET or _below(parts.segments, self.path))
        )

    def sentence(self) -> str:
        port = f"port {_or(map(str, self.ports))}" if self.ports else "the scheme's own port"
        path = "" if self.path is UNSET else f", path within {shown(self.path)}"
        return f"is a URL with scheme {_or(self.schemes)}, host {_or(self.hosts)}, {port}{path}"


class Cidr(Constraint, frozen=True, tag="cidr"):
    """The address is in one of these networks. Only an address in canonical spelling can be judged.

    The canonical spelling is dotted decimal for IPv4, and RFC 5952 for IPv6. An IPv6 address cannot be judged if it has
    a zone or contains an IPv4 address.
    """

    obstacles = {str: "is no address in canonical spelling"}  # noqa: RUF012 # a class variable
    networks: Texts

    @property
    def work_once(self) -> int:  # type: ignore[override] # the address is read, and compared with each network
        return _READING + 2 * _COMPARISON * len(self.networks)

    def __post_init__(self) -> None:
        for network in self.networks:
            demand(_is_network(network), "a network in canonical spelling, such as 10.0.0.0/8", network)

    def judge(self, value: Value) -> Judgement:
        if not isinstance(value, str) or len(value) > MAX_NETWORK or (address := _address(value)) is None:
            return None
        return any(address in _network(network) for network in self.networks)

    def sentence(self) -> str:
        return f"is an address in {_or(self.networks)}"


class _Parts(NamedTuple):
    scheme: str
    host: str
    port: int | None
    segments: tuple[str, ...]


@lru_cache(maxsize=_REMEMBERED)
def _parts(url: str) -> _Parts | None:
    """Return the parts of a URL in its only canonical spelling; None for any other text."""
    if (match := re.fullmatch(_URL, url)) is None:
        return None
    scheme, host, digits, path, query = match.groups()
    port = None if digits is None else int(digits)
    if port is not None and (port > 65535 or port == _OWN_PORTS.get(scheme)):
        return None
    if query is not None and not _is_query(query):
        return None
    if not _is_host(host) or _leads_here(host) or (segments := _segments(path)) is None:
        return None
    return _Parts(scheme, host, port, segments)


def _segments(path: str) -> tuple[str, ...] | None:
    """Return the decoded segments of the path of a URL; None if it is not canonical. It may end with a slash."""
    if not path.startswith("/") or len(path) > MAX_URL or not _IN_PATH.issuperset(path):
        return None
    # One decoding only. The table has no code that would be a divider or another `%`, so no reader can decode further.
    head, *tail = path.split("%")
    try:
        octets = head + "".join([_ENCODED_IN_PATH[part[:2]] + part[2:] for part in tail])
        text = octets.encode("latin-1").decode()
    except (KeyError, UnicodeDecodeError):
        return None
    if not text.isascii() and re.search(_DISGUISED, text):
        return None
    segments = tuple(text.removesuffix("/").split("/")[1:])
    return None if any(segment in {"", ".", ".."} for segment in segments) else segments


def _is_query(text: str) -> bool:
    return _IN_QUERY.issuperset(text) and all(part[:2] in _ENCODED for part in text.split("%")[1:])


def _below(segments: tuple[str, ...], path: str) -> bool:
    root = _segments(path) or ()
    return segments[: len(root)] == root


@lru_cache(maxsize=_REMEMBERED)
def _is_host(text: str) -> bool:
    """Whether this is a DNS name in canonical spelling that no program reads as an address."""
    if len(text) > MAX_HOST or not re.fullmatch(_HOST, text):
        return False
    # Browsers and C libraries read names such as `1.2` and `x.0x7f` as addresses.
    last = text.rpartition(".")[2]
    return not (last.isdecimal() or (last.startswith("0x") and _HEX.issuperset(last[2:])))


def _is_one(host: str, patterns: tuple[str, ...]) -> bool:
    # The dot of `*.x` stays in the suffix, so it does not match x itself or `notx`.
    return any(host == pattern or (pattern[0] == "*" and host.endswith(pattern[1:])) for pattern in patterns)


def _leads_here(host: str) -> bool:
    """Whether a host or pattern leads to this machine, to an address in the name, or to a metadata service."""
    labels = host.split(".")
    if labels[-1] in _METADATA or (labels[-1] == "internal" and not _METADATA.isdisjoint(labels)):
        return True
    return any(".".join(labels[-count:]) in _HERE for count in range(1, 6))


def _demand_pattern(pattern: str) -> None:
    demand(_is_host(pattern.removeprefix("*.")), "a host, or `*.` and a host, in lower-case ASCII", pattern)


@lru_cache(maxsize=_REMEMBERED)
def _is_network(text: str) -> bool:
    """Whether this is a network in canonical spelling that has addresses which can be judged."""
    if len(text) > MAX_NETWORK or "%" in text:
        return False
    try:
        network = _network(text)
    except ValueError:
        return False
    return str(network) == text and not _spells_v4(network[0], network[-1])


@lru_cache(maxsize=_REMEMBERED)
def _network(text: str) -> "IPv4Network | IPv6Network":
    from ipaddress import ip_network

    return ip_network(text)


@lru_cache(maxsize=_REMEMBERED)
def _address(text: str) -> "IPv4Address | IPv6Address | None":
    """Return the address; None for a text that is not an address in canonical spelling."""
    if "%" in text:
        return None
    from ipaddress import ip_address

    try:
        address = ip_address(text)
    except ValueError:
        return None
    return None if str(address) != text or _spells_v4(address, address) else address


def _spells_v4(first: "IPv4Address | IPv6Address", last: "IPv4Address | IPv6Address") -> bool:
    """Whether all addresses from `first` to `last` are IPv6 and contain an IPv4 one; `::` and `::1` do not."""
    return int(first) > 1 and any(first in network and last in network for network in map(_network, _V4_IN_V6))


def _or(texts: Iterable[str]) -> str:
    return " or ".join(texts)
