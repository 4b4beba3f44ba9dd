"""The JSON Schema of a block, generated from the classes that read blocks.

Law: the schema never refuses a block that the decoder reads. It accepts some blocks that the decoder refuses, because a
schema cannot express everything that a class checks. Its descriptions say the rest.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, cast, get_args

import msgspec

from capx_caveats.caveats import Budget, Entry, Tenant, UntilCompleted, Where
from capx_caveats.chain_caveats import Approved, Holder, Hop, Intent, Presented, Root, Sig, Signed, Step, Task
from capx_caveats.constraint import Wire
from capx_caveats.constraints import AnyConstraint, Each, Fields, Pair
from capx_caveats.names import ACTION_LENGTH, LABEL_LENGTH
from capx_caveats.network import MAX_HOST, MAX_NETWORK, MAX_URL, Cidr, Host, Url
from capx_caveats.texts import MAX_PROGRAM, MAX_TEXT, Glob, Path, Regex
from capx_caveats.value_constraints import Length, Range
from capx_caveats.values import Literal, Natural, Plain, Text
from capx_caveats.vocabulary import DEFAULT, MAX_BRACKETS, MAX_CAVEATS, Vocabulary

Schema = dict[str, Any]
"""A JSON Schema, or a part of one."""

ID: Final = "urn:capx:1:block"
"""The name of the schema; it is not an address."""

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_DEFS = "#/$defs/"
_ABOUT = (
    "One block of a capability: its caveats. A reader refuses every block that this schema refuses, and some others: "
    "the descriptions say what a schema cannot express. The text of a block is strict JSON in UTF-8 without a "
    f"byte-order mark, with at most {MAX_BRACKETS} `[`. The schema does not check where in a chain a mark may be."
)
_ACTION = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"
_ATTRIBUTE = "[a-z][a-z0-9_]{0,31}"
_LABEL = "(?:[a-z0-9]|[a-z0-9][a-z0-9-]{0,61}[a-z0-9])"
_BYTES = "[A-Za-z0-9_-]"
_HIDDEN = "No control, format or surrogate character, no line or paragraph separator (Unicode Cc, Cf, Cs, Zl, Zp)."


def _text(pattern: str | None = None, about: str = "", **more: Any) -> Schema:
    whole = {} if pattern is None else {"pattern": f"^(?:{pattern})$"}
    return {"type": "string", **whole, **more, **({"description": about} if about else {})}


_TEXTS: Final[Mapping[str, Schema]] = {
    "id": _text("[A-Za-z0-9_-]{1,64}"),
    "label": _text(minLength=1, maxLength=LABEL_LENGTH, about=_HIDDEN),
    "pattern": _text(rf"{_ACTION}(?:\.\*)?", maxLength=ACTION_LENGTH),
    "attribute": _text(_ATTRIBUTE),
    "fact": _text(rf"args\.[^\x00]{{1,{LABEL_LENGTH}}}|{_ATTRIBUTE}", f"For the NAME: {_HIDDEN}"),
    "amount": _text(r"(?:0|[1-9][0-9]{0,14})(?:\.[0-9]{1,6})?"),
    "audience": _text("[a-z0-9][a-z0-9.-]{0,62}"),
    "profile": {"enum": ["tool", "http", "mcp"]},
    "b8": _text(f"{_BYTES}{{10}}[AEIMQUYcgkosw048]"),
    "b12": _text(f"{_BYTES}{{16}}"),
    "b16": _text(f"{_BYTES}{{21}}[AQgw]"),
    "b32": _text(f"{_BYTES}{{42}}[AEIMQUYcgkosw048]"),
    "b64": _text(f"{_BYTES}{{85}}[AQgw]"),
    "glob": {"type": "string", "minLength": 1, "not": {"pattern": "[*]{3}"}},
    "path": _text(
        r"/[^%\\\x00]*", "No segment is empty, `.` or `..`. The path `/` is the root of all paths.", maxLength=MAX_TEXT
    ),
    "scheme": _text("[a-z][a-z0-9+.-]{1,31}", "A scheme whose URLs have hosts."),
    "host": _text(
        rf"(?:\*\.)?(?:{_LABEL}\.)*{_LABEL}",
        "Its last label is not a number.",
        maxLength=MAX_HOST + len("*."),
    ),
    "url_path": _text(
        r"/[A-Za-z0-9._~!$&'()*+,=:@%/-]*",
        "In canonical spelling (RFC 3986, section 6.2.2), without a slash at its end.",
        maxLength=MAX_URL,
    ),
    "network": _text("[0-9a-f.:]+/[0-9]{1,3}", "In canonical spelling, no host bits set.", maxLength=MAX_NETWORK),
}
"""The kinds of texts, for fields whose text the class itself checks."""

_KINDS: Final[Mapping[tuple[type[Wire], str], str]] = {
    (Task, "id"): "id",
    (Intent, "digest"): "b32",
    (Step, "to"): "label",
    (Step, "nonce"): "b8",
    (Root, "id"): "id",
    (Holder, "key"): "b32",
    (Hop, "to"): "label",
    (Hop, "nonce"): "b8",
    (Hop, "key"): "b32",
    (Presented, "profile"): "profile",
    (Presented, "digest"): "b32",
    (Presented, "nonce"): "b12",
    (Sig, "signature"): "b64",
    (Approved, "audience"): "audience",
    (Approved, "node"): "b16",
    (Approved, "shown"): "b32",
    (Signed, "signature"): "b64",
    (UntilCompleted, "task"): "id",
    (Tenant, "name"): "label",
    (Entry, "pattern"): "pattern",
    (Pair, "name"): "label",
    (Where, "attribute"): "fact",
    (Budget, "unit"): "attribute",
    (Budget, "limit"): "amount",
    (Budget, "counter"): "id",
    (Glob, "text"): "glob",
    (Path, "root"): "path",
    (Host, "patterns"): "host",
    (Url, "schemes"): "scheme",
    (Url, "hosts"): "host",
    (Url, "path"): "url_path",
    (Cidr, "networks"): "network",
}
"""The kind of a field, or of each element in it."""

_DISTINCT = "No name is used twice."
BEYOND: Final[Mapping[type[Wire], str]] = {
    Entry: _DISTINCT,
    Fields: _DISTINCT,
    Pair: "The constraint on `*` may not contain `absent`.",
    Where: "The constraint on an attribute may not contain `absent`.",
    Each: "The constraint may not contain `absent`.",
    Range: "At least one end is a number, and lo ≤ hi.",
    Length: "At least one end is a number, and lo ≤ hi.",
    Regex: f"RE2 accepts the pattern and needs at most {MAX_PROGRAM:,} bytes for it.",
    Glob: f"RE2 accepts the pattern and needs at most {MAX_PROGRAM:,} bytes for it.",
    Url: "Without ports, the schemes are only http and https. No host is a name of this machine or a metadata service.",
    Cidr: "No network is an IPv6 network whose addresses contain IPv4 ones.",
}
"""The checks of a class that a schema cannot express: those on several fields, or on more than their form."""


def block_schema(vocabulary: Vocabulary = DEFAULT) -> Schema:
    """Return the JSON Schema (draft 2020-12) of a block, with a definition for each caveat and constraint."""
    constraints = (*cast("tuple[type[Wire], ...]", get_args(AnyConstraint)), *sorted(vocabulary.own, key=_tag))
    kinds: tuple[type[Wire], ...] = (*vocabulary.caveats, Step, Entry, Pair, *constraints)
    found, forms = msgspec.json.schema_components(
        (*kinds, AnyConstraint, Literal, Plain, Natural, Text), ref_template=_DEFS + "{name}"
    )
    references = dict(zip(kinds, found, strict=False))
    any_constraint, literal, scalar, natural, text = found[len(kinds) :]
    parts = ((scalar, "scalar"), (natural, "natural"), (text, "text"))
    shared = ((any_constraint, "constraint"), (literal, "literal"), *parts)
    return {
        "$schema": _DIALECT,
        "$id": ID,
        "title": "block",
        "description": _ABOUT,
        "type": "array",
        "items": {"$ref": f"{_DEFS}caveat"},
        "minItems": 1,
        "maxItems": MAX_CAVEATS,
        "$defs": {
            "caveat": {"anyOf": [references[kind] for kind in vocabulary.caveats]},
            "constraint": {"anyOf": [references[kind] for kind in constraints]},
            "literal": _shared(literal, parts),
            "scalar": _shared(scalar, parts[1:]),
            "natural": {
                **natural,
                "description": "Without fraction or exponent, even if they are zero.",
            },
            "text": text,
            **_TEXTS,
            **{
                name: _definition(kind, forms[name], shared)
                for kind, name in ((kind, references[kind]["$ref"].removeprefix(_DEFS)) for kind in kinds)
            },
        },
    }


def meaning(kind: type[Wire]) -> str:
    """Return the docstring of a class, one line for each paragraph, and the checks that a schema cannot express."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in (kind.__doc__ or "").split("\n\n"))
    return " ".join(filter(None, ("\n\n".join(paragraphs).strip(), BEYOND.get(kind))))


def _tag(kind: type[Wire]) -> str:
    return str(kind.__struct_config__.tag)


def _definition(kind: type[Wire], form: Schema, shared: Sequence[tuple[Schema, str]]) -> Schema:
    """Return the schema of one class: its tag, then its fields by name."""
    tag = kind.__struct_config__.tag
    about = meaning(kind)
    items = [_shared(item, shared) for item in form["prefixItems"]]
    fields = items if tag is None else items[1:]
    for at, name in enumerate(kind.__struct_fields__):
        named = _of_kind(fields[at], _KINDS.get((kind, name)))
        fields[at] = {"title": name, **named}
    head = [] if tag is None else [{"const": tag}]
    return {
        "title": kind.__name__ if tag is None else tag,
        **({"description": about} if about else {}),
        "type": "array",
        "prefixItems": [*head, *fields],
        "minItems": form["minItems"],
        "maxItems": form["maxItems"],
    }


def _shared(form: Any, shared: Sequence[tuple[Schema, str]]) -> Any:
    """Return the schema with references to the parts that are defined once for all classes."""
    if isinstance(form, list):
        return [_shared(part, shared) for part in cast("Sequence[Any]", form)]
    if not isinstance(form, dict):
        return form
    parts = cast("Schema", form)
    default = {name: parts[name] for name in ("default",) if name in parts}
    bare = {name: part for name, part in parts.items() if name not in default}
    # msgspec writes each part out in full each time: compare it with the parts that have a definition.
    for common, name in shared:
        if bare == common:
            return {"$ref": _DEFS + name, **default}
    return {name: _shared(part, shared) for name, part in parts.items()}


def _of_kind(form: Schema, kind: str | None) -> Schema:
    """Return the schema with its text, or each text in it, replaced by a reference to this kind."""
    if kind is None:
        return form
    reference = {"$ref": _DEFS + kind}
    return {**form, "items": reference} if form.get("type") == "array" else reference
