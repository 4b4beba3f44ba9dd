"""The one spelling of a URI: the parser of a second project, and one decoding, leave it as it is."""

import posixpath
import re
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import AnyUrl

from capx.guard.mcp.resource_uri import uri_problem

PIECES = (
    *(
        "notes://",
        "http://",
        "https://",
        "ws://",
        "ftp://",
        "file:///",
        "urn:",
        "NOTES://",
        "file://",
        "http:/",
        "memo:",
    ),
    *("a", "B", "acme.com", "localhost", "1.2.3.4", "0x7f", "[::1]", "ana@", "@", ":80", ":080", ":443", ":8080", ":"),
    *("/", "//", "/..", "/.", "/x", "..", ".", "~", "*", "!", "-", "?", "?q=1", "#", ";", "\\", "{", "|", " ", "\t"),
    *("%20", "%73", "%2e", "%2E", "%2F", "%2f", "%5C", "%25", "%00", "%7F", "%C3%A9", "%c3%a9", "%C3", "%", "\u00e9"),
)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=7).map("".join))
@settings(max_examples=3_000)
def test_no_parser_and_no_decoding_changes_what_is_served(uri: str) -> None:
    if uri_problem(uri) is not None:
        return
    assert str(AnyUrl(uri)) == uri
    decoded = unquote(uri, errors="strict")
    assert unquote(decoded) == decoded
    assert re.sub("%(..)", lambda code: code[0].upper(), uri) == uri
    path = "/" + decoded.partition(":")[2].lstrip("/")
    assert posixpath.normpath(path) in (path, path.rstrip("/"))


@pytest.mark.parametrize(
    "uri",
    [
        *("notes://salaries", "notes://reports/may", "notes://a/", "config://app", "screen://localhost/display1"),
        *(
            "file:///a/b.txt",
            "http://acme.internal/x",
            "https://acme.internal:8443/x?y=/z/",
            "memo:todo",
            "urn:isbn:12",
        ),
        *("contacts://ana@acme.com", "db://x/two%20words", "notes://caf%C3%A9", "repo://o/n/a?ref=main", "t:1:2"),
        *("notes://Salaries", "a://b:80/", "notes://a?b=c/d"),
    ],
)
def test_an_ordinary_uri_has_no_problem(uri: str) -> None:
    assert uri_problem(uri) is None


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        *((uri, "as every server would write it") for uri in ("http://acme.com:80/x", "https://ACME.com/x", "http:x")),
        *(
            (uri, "as every server would write it")
            for uri in ("file://host/x", "http://acme.com", "ws://1.2.3.4/", "n:a;b")
        ),
        *(
            (uri, "as every server would write it")
            for uri in ("https://a:443/", "wss://a:443/", "ws://a:80/", "ftp://a:21/")
        ),
        *((uri, "its codes are no UTF-8") for uri in ("n:%C3", "n:a%FFb")),
        *((uri, "a `%` in it begins no code") for uri in ("n:%", "n:%0", "n:%zz", "n:a%4", "n:%c3%a9", "n:%C3%a9")),
        *(
            (uri, "a character that needs none")
            for uri in ("n:%41", "n:%2F", "n:%3F", "n:%25", "n:%00", "n:%7F", "n:%7E")
        ),
        *(
            (uri, "is empty, `.` or `..`")
            for uri in ("n://a/../b", "n://a/.", "n:..", "n://a//b", "n://a?b/../c", "n://.", "n:?a", "file:///?a")
        ),
    ],
)
def test_another_spelling_is_told_why(uri: str, why: str) -> None:
    assert why in (uri_problem(uri) or "")
