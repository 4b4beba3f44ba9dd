"""Read the tables of a policy: its audiences, statements, principals and purposes.

    [audience]              a name to the origin of the service
    [statement]             an audience of that table to how long a statement for it is good
    [principal."NAME"]      key, tenants, purposes, groups
    [purpose.NAME]          ttl, require, tenant, and its grants

Laws: if the policy lists audiences, it can grant only at these. A principal can have only purposes that the policy
defines. A purpose with `tenant = "none"` cannot take the tenant of the intent.
"""

import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from itertools import islice
from typing import Final, TypeVar, cast

from msgspec import Struct

from capx.intents.intent import OWN_NAMES
from capx.policy.fit import problems
from capx.policy.grant_tables import HOUR, FileContext, can_answer, duration, read_grants
from capx.policy.placeholders import Placeholder, placeholders_in
from capx.policy.policy import Principal, Purpose
from capx.policy.terms import Terms, in_order
from capx.policy.toml_reader import (
    MAX_LINES,
    Field,
    Wrong,
    attempted,
    every,
    explained,
    key,
    members,
    name,
    name_list,
    near,
    table,
    text,
    wrong,
)
from capx.tokens.lineage import AUTHORITY
from capx_caveats import is_attribute, is_audience, is_label, shown

T = TypeVar("T")

_OPTIONAL: Final = frozenset({"tenant", "agent", "agent_key"})
"""The fields that an intent may have or lack, besides its parameters."""
_ORIGIN = re.compile(r"https?://(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[1-9][0-9]{0,4})?")
LONGEST_STATEMENT: Final = 300
"""The most seconds for which a statement is good."""
_MOST_WAITING: Final = 100_000
"""The most requests of one principal that may wait at once, whatever the policy says."""
_LONGEST_TENANT: Final = 128 * "\U00010000"
"""A tenant whose name takes up the most bytes that a name can: a token must have room for it."""
_LABEL_RULE = "use 1 to 128 characters, none of them hidden"


class Tables(Struct, frozen=True):
    """The checked contents of a policy file."""

    audiences: Mapping[str, str]
    statements: Mapping[str, int]
    principals: Mapping[str, Principal]
    purposes: Mapping[str, Purpose]


def read_tables(document: Mapping[str, object]) -> Tables:
    """Read all tables of a file; raise Wrong with the mistakes of all of them."""
    # One more than an error shows is enough: `near` is slow, and a hostile file may have thousands of keys.
    unknown = islice((name for name in document if name not in _TABLES), MAX_LINES + 1)
    lines = [f"{key('', name)}: unknown key{near(name, _TABLES)}" for name in unknown]

    # Principals name purposes, and purposes need principals as approvers: so read the names of purposes first.
    there = document.get("purpose")
    purposes_there = cast("dict[str, object]", there) if isinstance(there, dict) else {}
    audiences = attempted(lines, _rows, document, "audience", _audience)
    statements = attempted(lines, _rows, document, "statement", partial(_statement, audiences))
    principals = attempted(lines, _principals, document, purposes_there)
    # None means that there is no list to compare with. After a mistake in the list itself, comparing would only
    # report more mistakes.
    listed = frozenset(audiences) if audiences and "audience" in document else None
    known = FileContext(listed, None if principals is None else can_answer(principals.values()))

    def purpose(name: str, raw: object, path: str) -> Purpose:
        return _purpose(name, raw, path, known)

    purposes = attempted(lines, _rows, document, "purpose", purpose)
    if audiences is None or statements is None or principals is None or purposes is None or lines:
        raise Wrong(*lines)
    return Tables(audiences, statements, principals, purposes)


_TABLES: Final = ("audience", "statement", "principal", "purpose")


def _rows(document: Mapping[str, object], kind: str, read: Callable[[str, object, str], T]) -> dict[str, T]:
    """Read each key of a table of the file, and return the results by name."""
    rows = table(document.get(kind, {}), kind)
    found = every(lambda name, raw: read(name, raw, key(kind, name)), rows.items())
    return dict(zip(rows, found, strict=True))


def _audience(audience: str, raw: object, path: str) -> str:
    name(is_audience, "an audience: use lower-case letters, digits, dots and dashes")(audience, path)
    if audience == AUTHORITY:
        raise wrong(path, f"{AUTHORITY} is reserved for the authority itself: choose another name")
    origin = text(raw, path)
    if not _ORIGIN.fullmatch(origin):
        raise wrong(path, f"{shown(origin)} is not an origin: write one like https://crm.internal, without a path")
    return origin


def _statement(audiences: Mapping[str, str] | None, audience: str, raw: object, path: str) -> int:
    # After a mistake in the list of audiences, comparing would only report more mistakes.
    if audiences is not None and audience not in audiences:
        raise wrong(path, f"is for {shown(audience)}, which [audience] does not list{near(audience, audiences)}")
    for other, origin in (audiences or {}).items():
        # A statement names its audience by the origin only.
        if audiences and other != audience and origin == audiences[audience]:
            raise wrong(path, f"has the origin of {shown(other)}, which could take its statements: give each its own")
    seconds = duration(raw, path)
    if not 0 < seconds <= LONGEST_STATEMENT:
        raise wrong(path, f"must be from 1s to {LONGEST_STATEMENT}s: nobody can end a statement before")
    return seconds


def _principals(document: Mapping[str, object], purposes: Collection[str]) -> dict[str, Principal]:
    found = _rows(document, "principal", lambda name, raw, at: _principal(name, raw, at, purposes))

    def distinct(principal: Principal) -> None:
        # An approver is the name of a group or of a principal: one name must not mean both.
        for group in principal.groups:
            if group in found:
                path = key(key("principal", principal.name), "groups")
                raise wrong(path, f"{shown(group)} is the name of a principal: give the group another name")

    every(distinct, ((principal,) for principal in found.values()))
    return found


def _principal(principal: str, raw: object, path: str, purposes: Collection[str]) -> Principal:
    name(is_label, f"a principal's name: {_LABEL_RULE}")(principal, path)
    fields = {
        "key": Field(_key),
        "tenants": Field(name_list(is_label, f"a tenant: {_LABEL_RULE}", "tenants")),
        "purposes": Field(lambda held, at: _purposes(held, at, purposes)),
        "groups": Field(name_list(is_label, f"a group: {_LABEL_RULE}", "groups")),
        "max_waiting": Field(_count),
    }
    return Principal(name=principal, **members(raw, path, fields))


def _count(raw: object, path: str) -> int:
    if type(raw) is not int or not 0 < raw <= _MOST_WAITING:
        raise wrong(path, f"must be a whole number from 1 to {_MOST_WAITING}")
    return raw


def _key(raw: object, path: str) -> bytes:
    from capx.crypto.ed25519 import parse_public

    written = text(raw, path)
    return explained(path, lambda: parse_public(written))


def _purposes(raw: object, path: str, there: Collection[str]) -> tuple[str, ...]:
    found = name_list(is_attribute, _ATTRIBUTE, "purposes")(raw, path)

    def one(purpose: str, at: str) -> str:
        if purpose not in there:
            raise wrong(at, f"is {shown(purpose)}, but the policy has no such purpose{near(purpose, there)}")
        return purpose

    return every(one, ((purpose, f"{path}[{number}]") for number, purpose in enumerate(found, 1)))


_ATTRIBUTE = "a name such as qbr: use a letter, then letters, digits and _, all lower case, at most 32"


def _purpose(purpose: str, raw: object, path: str, known: FileContext) -> Purpose:
    name(is_attribute, _ATTRIBUTE)(purpose, path)
    fields = {
        "ttl": Field(duration),
        "require": Field(_require),
        "tenant": Field(_no_tenant),
        "grant": Field(lambda held, at: read_grants(held, at, known), needed=True),
    }
    found = members(raw, path, fields)
    grants, tenant = found["grant"], "tenant" not in found
    required: tuple[str, ...] = found.get("require", ())
    if not tenant:
        every(_without_tenant, ((one,) for one in placeholders_in(grants) if one.name == "tenant"))
        if "tenant" in required:
            raise wrong(key(path, "require"), 'has tenant, but this purpose has tenant = "none": remove one of the two')
    # A parameter may have this name, but then a grant uses it.
    if "holder" in required and "holder" not in grants.names:
        raise wrong(key(path, "require"), "has holder, which only services can require: require agent_key here")
    ttl = found.get("ttl", HOUR)
    longest = _LONGEST_TENANT if tenant else None
    # With probes and the longest tenant: a grant that never fits into a token is a mistake of the policy, and is
    # reported now, not when a person waits for a task.
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


def _require(raw: object, path: str) -> tuple[str, ...]:
    found = name_list(is_attribute, "the name of a field of an intent", "fields that an intent must have")(raw, path)
    for number, one in enumerate(found, 1):
        if one in OWN_NAMES - _OPTIONAL:
            raise wrong(f"{path}[{number}]", f"is {one}, which every intent has: remove it from the list")
    return found


def _no_tenant(raw: object, path: str) -> None:
    if raw != "none":
        raise wrong(path, 'is not "none": write tenant = "none", or remove the key to use the tenant of the intent')


def _without_tenant(one: Placeholder) -> None:
    raise wrong(one.path, 'takes tenant from the intent, but this purpose has tenant = "none": remove one of the two')
