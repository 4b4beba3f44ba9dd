"""The tables of a policy: its audiences, principals and purposes.

    [audience]              a name to the origin of the service
    [principal."NAME"]      key, tenants, purposes, groups
    [purpose.NAME]          ttl, require, tenant, and its grants

Laws: where audiences are listed, nothing is granted at another. A purpose that somebody may ask for is there. One that
is for no tenant takes none.
"""

import re
from collections.abc import Callable, Collection, Mapping
from itertools import islice
from typing import Final, TypeVar, cast

from msgspec import Struct

from capx.intents.intent import OWN_NAMES
from capx.policy.fit import problems
from capx.policy.grant_tables import HOUR, Known, answering, duration, read_grants
from capx.policy.placeholders import Placeholder, taken
from capx.policy.policy import Principal, Purpose
from capx.policy.terms import Terms, in_order
from capx.policy.toml_reader import (
    TOLD,
    Field,
    Wrong,
    every,
    explained,
    key,
    members,
    name,
    name_list,
    near,
    table,
    text,
    tried,
    wrong,
)
from capx.tokens.lineage import AUTHORITY
from capx_caveats import is_attribute, is_audience, is_label, shown

T = TypeVar("T")

_OPTIONAL: Final = frozenset({"tenant", "agent"})
"""What an intent says or not, besides its parameters."""
_ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")
_LONGEST_TENANT: Final = 128 * "\U00010000"
"""A tenant whose name takes as much of a token as one can."""
_NAMED_SO = "1 to 128 characters, none of them hidden"


class Tables(Struct, frozen=True):
    """What a file holds, checked."""

    audiences: Mapping[str, str]
    principals: Mapping[str, Principal]
    purposes: Mapping[str, Purpose]


def read_tables(document: Mapping[str, object]) -> Tables:
    """What the tables of a file say; Wrong tells all that is wrong with any of them."""
    unknown = islice((name for name in document if name not in _TABLES), TOLD + 1)
    lines = [f"{key('', name)}: is no key here{near(name, _TABLES)}" for name in unknown]

    there = document.get("purpose")
    purposes_there = cast("dict[str, object]", there) if isinstance(there, dict) else {}
    audiences = tried(lines, _rows, document, "audience", _audience)
    principals = tried(lines, _principals, document, purposes_there)
    listed = frozenset(audiences) if audiences and "audience" in document else None
    known = Known(listed, None if principals is None else answering(principals.values()))

    def purpose(name: str, said: object, path: str) -> Purpose:
        return _purpose(name, said, path, known)

    purposes = tried(lines, _rows, document, "purpose", purpose)
    if audiences is None or principals is None or purposes is None or lines:
        raise Wrong(*lines)
    return Tables(audiences, principals, purposes)


_TABLES: Final = ("audience", "principal", "purpose")


def _rows(document: Mapping[str, object], kind: str, read: Callable[[str, object, str], T]) -> dict[str, T]:
    """What is read of each key of a table of the file, by its name."""
    rows = table(document.get(kind, {}), kind)
    found = every(lambda name, said: read(name, said, key(kind, name)), rows.items())
    return dict(zip(rows, found, strict=True))


def _audience(audience: str, said: object, path: str) -> str:
    name(is_audience, "an audience: lower-case letters, digits, dots and dashes")(audience, path)
    if audience == AUTHORITY:
        raise wrong(path, f"{AUTHORITY} is reserved: nothing is granted at it")
    origin = text(said, path)
    if not _ORIGIN.fullmatch(origin):
        raise wrong(path, f"is {shown(origin)}, which is no origin: write it like https://crm.internal, without a path")
    return origin


def _principals(document: Mapping[str, object], purposes: Collection[str]) -> dict[str, Principal]:
    found = _rows(document, "principal", lambda name, said, at: _principal(name, said, at, purposes))

    def distinct(principal: Principal) -> None:
        for group in principal.groups:
            if group in found:
                path = key(key("principal", principal.name), "groups")
                raise wrong(path, f"{shown(group)} is a principal: call the group otherwise")

    every(distinct, ((principal,) for principal in found.values()))
    return found


def _principal(principal: str, said: object, path: str, purposes: Collection[str]) -> Principal:
    name(is_label, f"a principal's name: {_NAMED_SO}")(principal, path)
    fields = {
        "key": Field(_key),
        "tenants": Field(name_list(is_label, f"a tenant: {_NAMED_SO}", "tenants")),
        "purposes": Field(lambda held, at: _purposes(held, at, purposes)),
        "groups": Field(name_list(is_label, f"a group: {_NAMED_SO}", "groups")),
    }
    return Principal(name=principal, **members(said, path, fields))


def _key(said: object, path: str) -> bytes:
    from capx.crypto.ed25519 import parse_public

    written = text(said, path)
    return explained(path, lambda: parse_public(written))


def _purposes(said: object, path: str, there: Collection[str]) -> tuple[str, ...]:
    found = name_list(is_attribute, _ATTRIBUTE, "purposes")(said, path)

    def one(purpose: str, at: str) -> str:
        if purpose not in there:
            raise wrong(at, f"is {shown(purpose)}, and there is no such purpose{near(purpose, there)}")
        return purpose

    return every(one, ((purpose, f"{path}[{number}]") for number, purpose in enumerate(found, 1)))


_ATTRIBUTE = "a name such as qbr: a letter, then letters, digits and _, all lower case, at most 32"


def _purpose(purpose: str, said: object, path: str, known: Known) -> Purpose:
    name(is_attribute, _ATTRIBUTE)(purpose, path)
    fields = {
        "ttl": Field(duration),
        "require": Field(_require),
        "tenant": Field(_no_tenant),
        "grant": Field(lambda held, at: read_grants(held, at, known), needed=True),
    }
    found = members(said, path, fields)
    grants, tenant = found["grant"], "tenant" not in found
    required: tuple[str, ...] = found.get("require", ())
    if not tenant:
        every(_without_tenant, ((one,) for one in taken(grants) if one.name == "tenant"))
        if "tenant" in required:
            raise wrong(key(path, "require"), 'names tenant, and the purpose is for none: leave out tenant = "none"')
    ttl = found.get("ttl", HOUR)
    longest = _LONGEST_TENANT if tenant else None
    if lines := tuple(problems(Terms(purpose=purpose, ttl=ttl, tenant=longest, rules=in_order(grants.probed())))):
        raise Wrong(*lines)
    return Purpose(
        name=purpose,
        ttl=ttl,
        require=required,
        tenant=tenant,
        names=frozenset({*required, *grants.names} - OWN_NAMES),
        rules=grants,
    )


def _require(said: object, path: str) -> tuple[str, ...]:
    found = name_list(is_attribute, "a name of what an intent says", "what an intent must say")(said, path)
    for number, one in enumerate(found, 1):
        if one in OWN_NAMES - _OPTIONAL:
            raise wrong(f"{path}[{number}]", f"{one} stands in every intent: leave it out")
    return found


def _no_tenant(said: object, path: str) -> None:
    if said != "none":
        raise wrong(
            path, 'is not "none": a purpose is for the tenant of its intent, or, by tenant = "none", for no tenant'
        )


def _without_tenant(one: Placeholder) -> None:
    raise wrong(one.path, "takes tenant from the intent, and the purpose is for none")
