"""For each constraint on what is reached, a table: this text, yes, no, or cannot judge."""

import socket
import sys
from collections.abc import Callable
from ipaddress import ip_address
from unicodedata import normalize
from urllib.parse import quote, unquote, urlsplit

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from capx_caveats import (
    DEFAULT,
    MISSING,
    AnyConstraint,
    Cidr,
    Host,
    InvalidCaveat,
    Judgement,
    Not,
    Url,
    Value,
    Where,
    cidr,
    each,
    encode_block,
    host,
    url,
    where,
)
from tests.labs.enumerations import each_case

YES, NO, CANNOT = True, False, None

ACME = url("acme.com", "*.acme.com")
PATHS = url("acme.com", path="/api/v1")
PORTS = url("acme.com", schemes=("https", "wss"), ports=(443, 8443))
LONGEST = ".".join(("a" * 63, "b" * 63, "c" * 63, "d" * 61))

ADDRESSES = [
    "127.0.0.1", "127.1", "127.0.1", "0", "0.0.0.0", "2130706433", "017700000001", "0x7f000001", "0x7f.1", "0x7f.0.0.1",
    "0177.0.0.1", "0177.0.0.01", "00000177.0.0.1", "127.0.0.0x1", "127.0x0.1", "0x", "1.0x", "0xg.0xff",
    "256.256.256.256",
    "4294967297", "1.2.3.4.5", "169.254.169.254", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe",
    "0251.0376.0251.0376",
    "169.254.43518", "169.16689662", "100.100.100.200", "192.0.0.192", "8.8.8.8", "acme.com.127", "acme.com.0x7f",
]  # fmt: skip
"""Each read as an IPv4 address, or as a broken one, by some program."""
V6 = [
    "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:127.0.0.1]", "[fd00:ec2::254]", "::1",
    "[fe80::1%25eth0]", "[fe80::1%eth0]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[v1.acme.com]", "[acme.com]",
    "[::1]acme.com", "acme.com[::1]", "[", "]", "[]", "[::1].acme.com",
]  # fmt: skip
NAMES_OF_THIS_MACHINE = [
    "localhost", "x.localhost", "acme.com.localhost", "localhost.localdomain", "localhost6.localdomain6", "localhost4",
    "ip6-localhost", "ip6-loopback", "ip6-allnodes", "loopback", "broadcasthost", "host.docker.internal",
    "gateway.docker.internal", "host.containers.internal", "localtest.me", "acme.com.localtest.me", "lvh.me",
    "127.0.0.1.nip.io", "a9fea9fe.nip.io", "169-254-169-254.sslip.io", "x.vcap.me", "10.0.0.1.xip.io",
]  # fmt: skip
METADATA = [
    "metadata.google.internal", "x.metadata.google.internal", "metadata", "metadata.goog", "instance-data",
    "instance-data.ec2.internal", "instance-data.eu-west-1.compute.internal", "metadata.azure.internal",
    "metadata.tencentyun.com", "metadata.packet.net", "metadata.platformequinix.com", "api.metadata.cloud.ibm.com",
    "rancher-metadata", "rancher-metadata.rancher.internal",
]  # fmt: skip
NOT_CANONICAL_NAMES = [
    "", ".", "..", "acme.com.", "acme.com..", ".acme.com", "acme..com", "ACME.com", "acme.COM", "Acme.com", "-acme.com",
    "acme-.com", "a.-.com", "acme.com-", "_acme.com", "a_b.acme.com", "*.acme.com", "*", "acme.com ", " acme.com",
    "acme.com\n", "\tacme.com", "acme\0.com", "acme.com\r\nx", "acme%2ecom", "%61cme.com", "acme\u3002com",
    "acme\uff0ecom",
    "acme\uff61com", "\u0430cme.com", "acme.com\u200b", "acm\u00ade.com", "\uff41cme.com", "acme.\u24d2om",
    "acm\u00e9.com", "xn--acm-epa.com.",
    "\uff11\uff12\uff17.0.0.1", "\u2460\u2461\u2466.0.0.1", "127\u30020\u30020\u30021", "acme.com:443", "acme.com/",
    "user@acme.com", "acme.com#", "acme\\.com",
    "acme!.com", "a" * 64 + ".com", "a" + LONGEST, ".".join("a" * 128), "a." * 2000 + "com", "-" * 100_000,
    "a" * 100_000,
]  # fmt: skip
"""No name in its one canonical spelling."""

UNJUDGEABLE_URLS = [
    # No absolute URL, or one that is spelled otherwise than its canonical form.
    "", "acme.com", "acme.com/", "//acme.com/", "///acme.com/", "/", "https:", "https:/", "https://", "https:///",
    "https:acme.com/",
    "https:/acme.com/", "https:///acme.com/", "https:////acme.com/", "https:\\\\acme.com\\", "https:\\acme.com/",
    "https:/\\acme.com/", "\\\\acme.com\\", "HTTPS://acme.com/", "Https://acme.com/", "https://ACME.com/",
    "https://acme.com",
    "https://acme.com?x=1", "https://acme.com#x", "https://acme.com./", "https://acme.com../", "://acme.com/",
    " https://acme.com/", "https://acme.com/ ", "\thttps://acme.com/", "https://acme.com/\n", "https://acme.com/\n/x",
    "ht\ntps://acme.com/", "https://ac\tme.com/", "https://acme.com\0/", "https://acme.com/\0", "https://acme.com/\x7f",
    "https://acme.com\r\nHost: evil.com/", "https://acme.com/\r\nHost: evil.com", "\ufeffhttps://acme.com/",
    "url:https://acme.com/", "https:https://acme.com/", "https+x//acme.com/", "https ://acme.com/", "h://acme.com/",
    # Userinfo, and what looks for a host beyond or before the host.
    "https://acme.com@evil.com/", "https://evil.com@acme.com/", "https://user:pw@acme.com/", "https://@acme.com/",
    "https://acme.com:443@evil.com/", "https://acme.com:@evil.com/", "https://a@b@acme.com/",
    "https://acme.com%40evil.com/",
    "https://evil.com#@acme.com/", "https://evil.com?@acme.com/", "https://evil.com\\@acme.com/",
    "https://evil.com;@acme.com/",
    "https://acme.com\\.evil.com/", "https://acme.com\\evil.com/", "https://acme.com;evil.com/",
    "https://acme.com,evil.com/",
    "https://acme.com&evil.com/", "https://acme.com$evil.com/", "https://evil.com acme.com/",
    "https://acme.com evil.com/",
    "https://acme.com%00.evil.com/", "https://acme.com%0d%0a.evil.com/", "https://acme.com%2f@evil.com/",
    "https://acme.com%23.evil.com/",
    "https://evil.com%2facme.com/", "https://acme%2ecom/", "https://%61cme.com/", "https://acme.com%/",
    "https://{acme.com}/",
    "https://acme.com/#x", "https://acme.com/#", "https://acme.com/#@evil.com/", "https://acme.com/x#/../y",
    # Ports.
    "https://acme.com:/", "https://acme.com:443/", "http://acme.com:80/", "https://acme.com:0/",
    "https://acme.com:0443/",
    "https://acme.com:00/", "https://acme.com:65536/", "https://acme.com:99999/", "https://acme.com:443:8443/",
    "https://acme.com::443/",
    "https://acme.com:-1/", "https://acme.com:+443/", "https://acme.com: 443/", "https://acme.com:4_43/",
    "https://acme.com:x/",
    "https://acme.com:0x1bb/", "https://acme.com:\uff14\uff14\uff13/", "https://acme.com:\u0664\u0664\u0663/",
    "https://acme.com:1e3/", "https://acme.com:8443evil.com/",
    "https://acme.com:8443.evil.com/", "https://acme.com:" + "1" * 4000 + "/",
    # Paths.
    "https://acme.com//", "https://acme.com//x", "https://acme.com/x//y", "https://acme.com/x//", "https://acme.com/.",
    "https://acme.com/..", "https://acme.com/./x", "https://acme.com/x/../y", "https://acme.com/x/..",
    "https://acme.com/x/../",
    "https://acme.com/%2e%2e/x", "https://acme.com/%2E%2E/x", "https://acme.com/.%2E/x", "https://acme.com/%2e/x",
    "https://acme.com/%252e%252e/x", "https://acme.com/%252E/x", "https://acme.com/%25", "https://acme.com/x%2Fy",
    "https://acme.com/x%2fy",
    "https://acme.com/x%5Cy", "https://acme.com/..%5Cy", "https://acme.com/x\\..\\y", "https://acme.com/x\\y",
    "https://acme.com/%00",
    "https://acme.com/x%00.png", "https://acme.com/x%0D%0AHost:%20evil.com", "https://acme.com/%09",
    "https://acme.com/%7F",
    "https://acme.com/..;/x", "https://acme.com/x;y=1/z", "https://acme.com/;x", "https://acme.com/x%3By",
    "https://acme.com/x%3Fy",
    "https://acme.com/x%23y", "https://acme.com/%", "https://acme.com/%2", "https://acme.com/%zz",
    "https://acme.com/%u002e",
    "https://acme.com/%41", "https://acme.com/%7E", "https://acme.com/%7e", "https://acme.com/%c3%a9",
    "https://acme.com/\u00e9",
    "https://acme.com/%C0%AE%C0%AE/x", "https://acme.com/%C0%AF", "https://acme.com/%E9", "https://acme.com/%ED%A0%80",
    "https://acme.com/%EF%BC%8E%EF%BC%8E/x", "https://acme.com/x%EF%BC%8Fy", "https://acme.com/x%E2%88%95y",
    "https://acme.com/x%E2%81%84y",
    "https://acme.com/%E2%80%A6/x", "https://acme.com/%E2%80%8B", "https://acme.com/x%E2%80%AEy",
    "https://acme.com/%EF%BB%BF",
    "https://acme.com/%C2%85", "https://acme.com/%C2%AD", "https://acme.com/a b", "https://acme.com/<x>",
    'https://acme.com/"',
    "https://acme.com/{x}", "https://acme.com/x|y", "https://acme.com/^", "https://acme.com/`", "https://acme.com/[x]",
    "https://acme.com/../../evil.com/", "https://acme.com/x/\uff0e\uff0e/y",
    # Queries.
    "https://acme.com/?", "https://acme.com/?x=%3d", "https://acme.com/?x=%41", "https://acme.com/?x=%",
    "https://acme.com/?x y",
    "https://acme.com/?x=\u00e9", "https://acme.com/?x#y", "https://acme.com/?x=\\", "https://acme.com/?[x]",
    "https://acme.com/?x\n",
    "https://acme.com/?" + "x" * 4096,
    # Schemes whose own port, or whose host, nobody here knows.
    "ftp://acme.com/", "ftp://acme.com:21/", "gopher://acme.com:70/_x", "file:///etc/passwd",
    "file://acme.com/etc/passwd",
    "javascript://acme.com/%0Aalert(1)", "javascript:alert(1)", "data:text/html,x", "jar:https://acme.com/!/x",
    "ws://acme.com/",
    "blob:https://acme.com/", "view-source:https://acme.com/", "dict://acme.com:11211/", "ldap://acme.com:389/",
    "mailto:a@acme.com",
    "unix:///var/run/docker.sock", "netdoc:///etc/passwd", "https2://acme.com:1/",
    *(f"https://{bad}/" for bad in (*ADDRESSES, *V6, *NAMES_OF_THIS_MACHINE, *METADATA, *NOT_CANONICAL_NAMES)),
    *(f"https://{bad}:8443/" for bad in (*ADDRESSES, *V6, *NAMES_OF_THIS_MACHINE, *METADATA)),
]  # fmt: skip

ADDRESSES_NOT_CANONICAL = [
    "", "acme.com", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.01", "0127.0.0.1", "127.0.0.1.",
    "127.0.0.256",
    " 127.0.0.1", "127.0.0.1 ", "127.0.0.1\n", "127.0.0.1\0", "127.0.0.1/32", "127.0.0.1:80",
    "\uff11\uff12\uff17.0.0.1", "127\u30020\u30020\u30021", "\u0662.0.0.1",
    "10.0.0.-1", "+10.0.0.1", "1e1.0.0.1", "10.0.0", "10.0.0.0.1", "[::1]", "0:0:0:0:0:0:0:1", "::0", "0::1", "::0001",
    "FD00::1",
    "fd00::0:1", "fd00:0:0:1::1:1", "fd00::1:0:0:0:1", "fd00::1::2", "fd00::1%eth0", "fd00::1%25eth0", "fe80::1%",
    "fd00::g", "fd00::1/64",
    "::ffff:10.0.0.1", "::ffff:a00:1", "::10.0.0.1", "::a00:1", "::ffff:0:a00:1", "64:ff9b::a00:1", "64:ff9b:1::a00:1",
    "2002:a00:1::",
    "2001:0:a00:1::1", "2001::1", "1" * 44, "1" * 100_000, ":" * 100_000,
]  # fmt: skip

NO_TEXTS: list[Value] = [None, True, False, 0, 1, 1.5, [], {}, {"url": "https://acme.com/"}]

TABLE: list[tuple[AnyConstraint, list[tuple[Value, Judgement]]]] = [
    (host("acme.com"), [("acme.com", YES), ("a.acme.com", NO), ("evilacme.com", NO), ("acme.com.evil.com", NO)]),
    (host("acme.com"), [("com", NO), ("acme", NO), ("acme.co", NO), ("acme.comm", NO), ("acme-com", NO)]),
    (host("acme.com"), [("acrne.com", NO)]),
    (host("*.acme.com"), [("a.acme.com", YES), ("a.b.acme.com", YES), ("acme.com", NO), ("evilacme.com", NO)]),
    (host("*.acme.com"), [("a.acme.com.evil.com", NO), ("acme.com.a", NO), ("a.xacme.com", NO), ("x-acme.com", NO)]),
    (host("acme.com", "*.crm"), [("acme.com", YES), ("a.crm", YES), ("crm", NO)]),
    (host("crm"), [("crm", YES), ("crm.acme.com", NO), ("xcrm", NO), ("localhost", NO)]),
    (host("localhost"), [("localhost", YES), ("127.0.0.1", CANNOT), ("localhost.", CANNOT)]),
    (host("xn--acm-epa.com"), [("xn--acm-epa.com", YES), ("acm\u00e9.com", CANNOT), ("xn--acm-fpa.com", NO)]),
    (host("1.acme.com", "0x7f.acme.com", "a--b.c"), [("1.acme.com", YES), ("0x7f.acme.com", YES), ("a--b.c", YES)]),
    (host("*.0xyz"), [("a.0xyz", YES), ("a.0xyz.com", NO), ("a.0xff", CANNOT)]),
    (host(LONGEST), [(LONGEST, YES), ("a" * 63, NO), (LONGEST + "d", CANNOT)]),
    (host("acme.com"), [(bad, CANNOT) for bad in (*ADDRESSES, *V6, *NOT_CANONICAL_NAMES)]),
    (host("acme.com"), [(bad, CANNOT) for bad in (*NO_TEXTS, ["acme.com"])]),
    (ACME, [("https://acme.com/", YES), ("https://a.acme.com/", YES), ("https://acme.com/x/y/", YES)]),
    (ACME, [("https://acme.com/?q=a%20b&r%5B=1", YES), ("https://acme.com/?a=/../b;c?d@evil.com:", YES)]),
    (ACME, [("https://acme.com/@evil.com/", YES), ("https://acme.com/x:y@z/~me/a%20b/%C3%A9", YES)]),
    (ACME, [("https://acme.com/?u=https://evil.com/%23@%0A%25%00", YES), ("https://acme.com/.../..x/x..", YES)]),
    (ACME, [("https://acme.com/%E2%80%93%E2%80%99", YES), ("https://acme.com/!$&'()*+,=", YES)]),
    (ACME, [("https://evil.com/", NO), ("https://acme.com.evil.com/", NO), ("https://evilacme.com/", NO)]),
    (ACME, [("https://evil.com/acme.com", NO), ("https://evil.com/@acme.com/", NO)]),
    (ACME, [("https://evil.com/?@acme.com/", NO)]),
    (ACME, [("https://evil.com/https:acme.com", NO), ("https://acme.co/", NO)]),
    (ACME, [("https://xn--acme-.com.evil/", CANNOT)]),
    (ACME, [("http://acme.com/", NO), ("https://acme.com:8443/", NO), ("https://acme.com:80/", NO)]),
    (ACME, [("https://acme.com/?" + "x" * 4078, YES), ("https://acme.com/?" + "x" * 4079, CANNOT)]),
    (ACME, [(bad, CANNOT) for bad in UNJUDGEABLE_URLS]),
    (ACME, [(bad, CANNOT) for bad in (*NO_TEXTS, ["https://acme.com/"])]),
    (url("crm", schemes=("http", "https")), [("http://crm/", YES), ("https://crm/", YES), ("http://crm:443/", NO)]),
    (url("*.internal"), [("https://crm.internal/", YES), ("https://metadata.google.internal/", CANNOT)]),
    (PORTS, [("https://acme.com/", YES), ("https://acme.com:8443/", YES), ("https://acme.com:8080/", NO)]),
    (PORTS, [("wss://acme.com:443/", YES), ("wss://acme.com/", CANNOT), ("ws://acme.com:443/", CANNOT)]),
    (PORTS, [("http://acme.com:8443/", NO), ("https://acme.com:443/", CANNOT), ("wss://acme.com:80/", NO)]),
    (url("acme.com", ports=(8443,)), [("https://acme.com/", NO), ("https://acme.com:8443/", YES)]),
    (url("acme.com", ports=(1, 65535)), [("https://acme.com:1/", YES), ("https://acme.com:65535/", YES)]),
    (PATHS, [("https://acme.com/api/v1", YES), ("https://acme.com/api/v1/", YES)]),
    (PATHS, [("https://acme.com/api/v1/x?y", YES)]),
    (PATHS, [("https://acme.com/", NO), ("https://acme.com/api", NO), ("https://acme.com/api/v10", NO)]),
    (PATHS, [("https://acme.com/API/v1", NO), ("https://acme.com/x/api/v1", NO), ("https://acme.com/?/api/v1", NO)]),
    (PATHS, [("https://acme.com/api/v1/../v2", CANNOT), ("https://acme.com/api/v1%2Fx", CANNOT)]),
    (PATHS, [("https://acme.com/api%2Fv1", CANNOT), ("https://acme.com/api/v1;x", CANNOT)]),
    (PATHS, [("https://acme.com/api//v1", CANNOT)]),
    (url("acme.com", path="/"), [("https://acme.com/", YES), ("https://acme.com/x", YES)]),
    (url("acme.com", path="/a@b"), [("https://acme.com/a@b", YES), ("https://acme.com/a%40b/c", YES)]),
    (url("acme.com", path="/a%20b"), [("https://acme.com/a%20b/c", YES), ("https://acme.com/a+b", NO)]),
    (cidr("10.0.0.0/8"), [("10.0.0.0", YES), ("10.255.255.255", YES), ("11.0.0.0", NO), ("9.255.255.255", NO)]),
    (cidr("10.0.0.0/8"), [("::1", NO), ("fd00::1", NO), ("127.0.0.1", NO), ("169.254.169.254", NO)]),
    (cidr("10.0.0.7/32"), [("10.0.0.7", YES), ("10.0.0.6", NO)]),
    (cidr("fd00::/8", "10.0.0.0/8"), [("fd00:ec2::254", YES), ("10.1.2.3", YES), ("fe00::", NO), ("8.8.8.8", NO)]),
    (cidr("0.0.0.0/0"), [("8.8.8.8", YES), ("::1", NO)]),
    (cidr("::/0"), [("::1", YES), ("::", YES), ("2001:db8::1", YES), ("8.8.8.8", NO)]),
    (cidr("fd00::/8"), [("10.0.0.1", NO), ("fd12:3456:789a:bcde:f012:3456:789a:bcde", YES)]),
    (cidr("::/0", "0.0.0.0/0"), [(bad, CANNOT) for bad in ADDRESSES_NOT_CANONICAL]),
    (cidr("10.0.0.0/8"), [(bad, CANNOT) for bad in (*NO_TEXTS, ["10.0.0.1"], 167772161)]),
]  # fmt: skip
CASES = [(constraint, value, verdict) for constraint, rows in TABLE for value, verdict in rows]
CONSTRAINTS = list(dict.fromkeys(constraint for constraint, _ in TABLE))


def brief(part: object) -> str:
    return ascii(part)[:60]


@each_case(("constraint", "value", "verdict"), CASES, ids=brief)
def test_a_constraint_says_yes_no_or_cannot_judge(constraint: AnyConstraint, value: Value, verdict: Judgement) -> None:
    assert constraint.judge(value) is verdict
    assert Not(constraint).judge(value) is (None if verdict is None else not verdict)


@each_case("bad", UNJUDGEABLE_URLS, ids=brief)
def test_no_spelling_passes_by_being_denied(bad: str) -> None:
    for denied in (
        url("evil.com"),
        url("acme.com", schemes=("http",), ports=(1,), path="/x"),
        url("com", ports=(443,)),
    ):
        assert Not(denied).judge(bad) is None


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=brief)
def test_what_is_missing_cannot_be_judged(constraint: AnyConstraint) -> None:
    assert constraint.judge(MISSING) is None


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=brief)
def test_what_is_written_reads_back(constraint: AnyConstraint) -> None:
    demand = Where("args.target", constraint)
    assert DEFAULT.decode(encode_block((demand,))) == (demand,)


def test_the_wire_form_is_positional_and_ends_before_the_absent() -> None:
    assert url("acme.com").wire() == ["url", ["https"], ["acme.com"], []]
    assert url("acme.com", ports=(1,), path="/x").wire() == ["url", ["https"], ["acme.com"], [1], "/x"]
    assert host("a.b", "*.c").wire() == ["host", ["a.b", "*.c"]]
    assert cidr("10.0.0.0/8").wire() == ["cidr", ["10.0.0.0/8"]]


@pytest.mark.parametrize(
    "wrong",
    [
        b'["url",["https"],["acme.com"]]', b'["url",["https"],["acme.com"],[],null]',
        b'["url",["https"],["acme.com"],[],"/x",1]',
        b'["url","https",["acme.com"],[]]', b'["url",["https"],"acme.com",[]]', b'["url",[],["acme.com"],[]]',
        b'["url",["https"],[],[]]',
        b'["url",["https"],["acme.com"],[0]]', b'["url",["https"],["acme.com"],[65536]]',
        b'["url",["https"],["acme.com"],[443.0]]',
        b'["url",["https"],["acme.com"],["443"]]', b'["url",["https"],["acme.com"],[true]]',
        b'["url",["https"],["acme.com"],null]',
        b'["url",["https"],["localhost"],[]]', b'["url",["https"],["acme.com"],[],""]', b'["host"]', b'["host",[]]',
        b'["host","acme.com"]',
        b'["host",["acme.com"],1]', b'["host",["*"]]', b'["host",[null]]', b'["cidr",[]]', b'["cidr","10.0.0.0/8"]',
        b'["cidr",["10.0.0.1/8"]]',
        b'["cidr",[167772160]]',
    ],
)  # fmt: skip
def test_wrong_fields_are_not_understood(wrong: bytes) -> None:
    (caveat,) = DEFAULT.decode(b'[["where","args.target",' + wrong + b"]]")
    assert not isinstance(caveat, Where)


HOSTS_THAT_CANNOT_BE_MEANT = [
    "*", "*.", "*.*", "*.*.com", "a.*", "a.*.com", "*acme.com", "**.acme.com", "*.acme.com.", "*..acme.com",
    "*.ACME.com", "*.127.0.0.1",
    "a*.acme.com", *ADDRESSES, *V6, *(bad for bad in NOT_CANONICAL_NAMES if bad != "*.acme.com"),
]  # fmt: skip


@each_case("bad", HOSTS_THAT_CANNOT_BE_MEANT, ids=brief)
def test_a_pattern_that_no_host_can_meet_is_not_built(bad: str) -> None:
    for build in (host, url):
        with pytest.raises(InvalidCaveat):
            build("acme.com", bad)


@pytest.mark.parametrize("bad", [*NAMES_OF_THIS_MACHINE, *METADATA])
def test_a_url_of_this_machine_or_a_metadata_service_is_refused(bad: str) -> None:
    for pattern in (bad, f"*.{bad}"):
        with pytest.raises(InvalidCaveat):
            url(pattern)


@pytest.mark.parametrize(
    "build",
    [
        url,
        lambda: url(""),
        lambda: url("acme.com", schemes=()),
        lambda: url("acme.com", schemes="https"),
        lambda: url("acme.com", schemes="https", ports=(443,)),
        lambda: url("acme.com", schemes=("https", "wss")),
        lambda: url("acme.com", schemes=("HTTPS",)),
        lambda: url("acme.com", schemes=("https:",)),
        lambda: url("acme.com", schemes=("https\n",)),
        lambda: url("acme.com", schemes=("",)),
        lambda: url("acme.com", schemes=("file",), ports=(80,)),
        lambda: url("acme.com", schemes=("javascript",), ports=(80,)),
        lambda: url("acme.com", schemes=("x" * 33,), ports=(80,)),
        lambda: url("acme.com", ports=(0,)),
        lambda: url("acme.com", ports=(-1,)),
        lambda: url("acme.com", ports=(65536,)),
        lambda: url("acme.com", ports=(True,)),
        lambda: url("acme.com", ports=("443",)),  # type: ignore[arg-type] # what a person might pass
        lambda: url("acme.com", path=""),
        lambda: url("acme.com", path="api"),
        lambda: url("acme.com", path="/api/"),
        lambda: url("acme.com", path="//"),
        lambda: url("acme.com", path="/a/../b"),
        lambda: url("acme.com", path="/a?b"),
        lambda: url("acme.com", path="/a%2Fb"),
        lambda: url("acme.com", path="/%61"),
        lambda: url("acme.com", path="/a b"),
        lambda: url("acme.com", path="/" + "a" * 4096),
        lambda: Url("https", ("acme.com",), ()),  # type: ignore[arg-type] # what a person might pass
        lambda: Url(("https",), "acme.com", ()),  # type: ignore[arg-type] # what a person might pass
        host,
        lambda: Host("acme.com"),  # type: ignore[arg-type] # what a person might pass
        lambda: Host("crm"),  # type: ignore[arg-type] # what a person might pass
        lambda: Host((1,)),  # type: ignore[arg-type] # what a person might pass
        cidr,
        lambda: Cidr("10.0.0.0/8"),  # type: ignore[arg-type] # what a person might pass
    ],
)
def test_what_cannot_be_meant_is_not_built(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidCaveat):
        build()


@pytest.mark.parametrize(
    "bad",
    [
        "", "/", "/8", "10.0.0.0", "10.0.0.0/", "10.0.0.1/8", "10.0.0.0/08", "10.0.0.0/33", "10.0.0.0/-1",
        "10.0.0.0/255.0.0.0",
        "10.0.0.0/0.255.255.255", "10/8", "10.0/8", "010.0.0.0/8", "10.0.0.0/8 ", "10.0.0.0/8/8", "10.0.0.0/\u0668",
        "acme.com", "fd00::/129",
        "FD00::/8", "fd00:0::/8", "fd00::1/8", "fe80::%eth0/64", "::ffff:10.0.0.0/104", "::ffff:a00:0/104",
        "64:ff9b::/96", "2002::/16",
        "2002:a00::/24", "2001::/32", "::2/127", "0::/96", "1" * 100_000,
    ],
    ids=brief,
)  # fmt: skip
def test_a_misspelled_or_empty_network_is_refused(bad: str) -> None:
    with pytest.raises(InvalidCaveat):
        cidr("10.0.0.0/8", bad)


def test_a_network_in_a_block_that_is_read_twice_is_checked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked = list[object]()
    monkeypatch.setattr("capx_caveats.network._spells_v4", lambda *ends: checked.append(ends))
    DEFAULT.decode(b'[["where","args.x",["cidr",["3f1b::/16","3f1b::/16"]]],["acme.own"]]')
    assert len(checked) == 1


def test_a_network_around_disguised_addresses_still_has_others() -> None:
    assert cidr("::/96").judge("::1") is True
    assert cidr("64:ff9b::/47").judge("64:ff9b::1:0:0") is True
    assert cidr("64:ff9a::/31").judge("64:ff9b::1:0:0") is True
    assert cidr("2001::/16").judge("2001:db8::1") is True


def test_more_urls_than_the_work_allows_are_not_judged() -> None:
    long = "https://acme.com/" + "%C3%A9" * 600
    assert each(ACME).judge([long] * 16) is True
    assert each(ACME).judge([long] * 32) is None


def test_people_are_told_what_is_demanded() -> None:
    assert where("args.to", host("acme.com", "*.acme.com")).sentence().endswith("is a host acme.com or *.acme.com")
    assert cidr("10.0.0.0/8", "fd00::/8").sentence() == "is an address in 10.0.0.0/8 or fd00::/8"
    assert ACME.sentence() == "is a URL with scheme https, host acme.com or *.acme.com, the scheme's own port"
    assert url("a.b", ports=(1, 2), path="/x").sentence() == (
        'is a URL with scheme https, host a.b, port 1 or 2, path within "/x"'
    )


def test_a_character_folding_into_a_divider_is_refused_in_paths() -> None:
    laxer = [one for one in map(chr, range(0x80, sys.maxunicode)) if set("./\\%;?#") & set(normalize("NFKC", one))]
    assert len(laxer) > 20
    for one in laxer:
        assert ACME.judge(f"https://acme.com/x{quote(one)}y") is None, ascii(one)


PIECES = [
    "https", "http", "wss", "HTTPS", ":", "/", "//", "://", "\\", "@", "#", "?", ";", "%", "%2e", "%2E", "%2F", "%40",
    "%C3%A9", "%00",
    ".", "..", "acme.com", "a.", "evil.com", "127.0.0.1", "0x7f", "1", "[::1]", "localhost", ":443", ":8443", "api",
    "v1", "/api/v1",
    " ", "\t", "\n", "\0", "\u3002", "\uff0e", "\u00e9", "\u200b", "xn--a", "-", "_", "~", "'", "*",
]  # fmt: skip
texts = (
    st.text()
    | st.lists(st.sampled_from(PIECES)).map("".join)
    | st.lists(st.sampled_from(PIECES)).map(lambda pieces: "https://acme.com/" + "".join(pieces))
    | st.lists(st.sampled_from(PIECES)).map(lambda pieces: "https://" + "".join(pieces) + "acme.com/api")
    | st.from_regex(r"https://[a-z0-9.x-]{1,12}(:[0-9]{1,5})?/([!-~]{0,4}/){0,3}", fullmatch=True)
)


@given(texts)
@example("https://a.acme.com/")
@example("wss://acme.com:8443/")
@example("https://acme.com/a%40b")
def test_whatever_is_judged_other_readers_of_urls_read_alike(text: str) -> None:
    free = url("acme.com", "*.acme.com", schemes=("https", "http", "wss"), ports=(80, 443, 8443))
    below = url("acme.com", path="/api/v1")
    verdict = free.judge(text)
    if verdict is None:
        return
    parts, other = urlsplit(text), httpx.URL(text)
    assert parts.geturl() == text
    assert (parts.username, parts.password, parts.fragment, other.userinfo, other.fragment) == (None, None, "", b"", "")
    assert (parts.scheme, parts.hostname, parts.port) == (other.scheme, other.raw_host.decode(), other.port)
    assert unquote(parts.path) == other.path
    name = parts.hostname or ""
    port = parts.port or {"https": 443, "http": 80}[parts.scheme]
    assert verdict == ((name == "acme.com" or name.endswith(".acme.com")) and port in {80, 443, 8443})
    if below.judge(text):
        assert (parts.scheme, name, parts.port) == ("https", "acme.com", None)
        assert (unquote(parts.path) + "/").startswith("/api/v1/")


numbers = st.integers(0, 2**33).flatmap(lambda n: st.sampled_from([str(n), hex(n), f"0{n:o}", f"{n:x}"]))
small = st.integers(0, 300).flatmap(lambda n: st.sampled_from([str(n), hex(n), f"0{n:o}", f"00{n}"]))


@given(numbers | st.lists(small, min_size=1, max_size=5).map(".".join) | st.text("0123456789abcdefx.:-", max_size=20))
def test_no_judged_name_is_an_address_to_the_operating_system(text: str) -> None:
    if host("acme.com").judge(text) is None and url("acme.com").judge(f"https://{text}/") is None:
        return
    with pytest.raises(OSError, match="illegal IP address"):
        socket.inet_aton(text)
    with pytest.raises(ValueError, match="does not appear to be"):
        ip_address(text)


@given(st.ip_addresses().map(str) | st.text("0123456789abcdef.:/%", max_size=20) | st.text())
def test_every_address_that_is_judged_has_one_spelling(text: str) -> None:
    everywhere = cidr("0.0.0.0/0", "::/0").judge(text)
    assert everywhere is not False
    if everywhere:
        assert str(ip_address(text)) == text
