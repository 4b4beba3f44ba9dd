"""Makes docs/reference/vocabulary.md from the classes, and from the results of the examples when they are executed."""

import json
import shlex
from collections.abc import Iterable
from typing import Any, Final, cast, get_args

import click
from msgspec import UNSET

import capx_caveats
from capx_caveats import (
    DEFAULT,
    MISSING,
    PLACES,
    AnyConstraint,
    Budget,
    Caveat,
    Constraint,
    Judgement,
    Value,
    Where,
    allow,
    encode_block,
)
from capx_caveats.builders import resolved
from capx_caveats.caveats import Entry
from capx_caveats.chain_caveats import ChainCaveat, Step
from capx_caveats.constraint import MAX_MATCH_WORK, MAX_VALUES, Wire
from capx_caveats.constraints import Pair
from capx_caveats.schema import block_schema, meaning
from capx_caveats.texts import MAX_TEXT
from capx_caveats.vocabulary import MAX_BRACKETS, MAX_CAVEATS
from capx_cli import arguments
from tests.reference.examples import CAVEATS, CONSTRAINTS, REFUSED, Example

CONSTRAINT_KINDS: Final = cast("tuple[type[Constraint], ...]", get_args(AnyConstraint))
SCHEMA: Final = block_schema()
DEFINED: Final[dict[str, Any]] = SCHEMA["$defs"]

_HEAD: Final = f"""# Vocabulary, by example

This page is generated from the classes: `python -m tests.reference`. The wire forms, sentences and codes come from
executed examples, and a test executes them again. The [specification](../spec/vocabulary.md) is normative.
[block.schema.json](block.schema.json) is the JSON Schema (draft 2020-12) of a block.
`capx_caveats.schema.block_schema` makes it, also for a vocabulary with [caveats of your own](own-caveats.md).

Every caveat that is appended to a capability narrows it: a call must satisfy each caveat of each block. A block has 1
to {MAX_CAVEATS} caveats and at most {MAX_BRACKETS} `[`. If a caveat does not have the form shown here, or has an
unknown tag, the call is denied: `not_understood`. In Python, a class raises `InvalidCaveat` for values that it would
not read.

`?` marks an optional field: leave it out, never write null. The names are those of `capx_caveats`. The options are
those of `capx mint`, `delegate` and `attenuate`. The text after `x=` in `--with` is the same in `--where args.x=`, and
in `--where NAME=` for an attribute.
"""
_CAVEATS: Final = """## Caveats

Each caveat demands one thing of a call. Any block may have it, and may have it several times. The code
`incomplete_authority` means that the authority's block lacks a caveat that it must have: `task`, `root`,
`until_completed`, `expires` and `allow`, and also `tenant` if the call has a tenant. A denial by `allow` or `budget`
may be [requestable](../spec/reasons.md#requestable): it then says what to ask for.
"""
_CONSTRAINTS: Final = f"""## Constraints

A constraint judges one value: yes, no, or "cannot judge". Only yes passes. `not` swaps yes and no, and nothing else. A
constraint can be in a pair of `allow` or `fields`, in `where`, and in `each`, `any`, `all` and `not`. If it does not
say yes, the call is denied with `argument_refused`, or with `attribute_missing` if it is in a `where` and the value is
missing.

Each constraint says which values it cannot judge. In addition, none judges:

- an array or object of more than {MAX_VALUES} values at all depths, if the constraint looks at each value;
- a text of more than {MAX_TEXT} characters, if the constraint is `path`, `url`, `glob` or `regex`;
- a value that needs more than {MAX_MATCH_WORK:,} characters times steps.
"""
_COLUMNS: Final = ("wire form", "Python", "shell", "in words")
_PARTS: Final = "## Parts\n\nSome fields hold these values. A part has no tag.\n"
_FIELDS: Final = """## Kinds of fields

A pattern must match the whole text. Bytes are base64url without padding, in the only canonical spelling.
"""


def page() -> str:
    """The page in Markdown."""
    marks = [kind for kind in DEFAULT.caveats if issubclass(kind, ChainCaveat)]
    others = [kind for kind in DEFAULT.caveats if kind not in marks]
    return "\n".join(
        [
            _HEAD,
            "## Marks\n\nThe mechanism reads marks. They demand nothing of a call. A block has each at most once.\n",
            *map(_caveat, marks),
            _CAVEATS,
            *map(_caveat, others),
            _CONSTRAINTS,
            *map(_constraint, CONSTRAINT_KINDS),
            _PARTS,
            *(_about(kind) for kind in (Entry, Pair, Step)),
            _FIELDS,
            _kinds_of_fields(),
        ]
    )


def _caveat(kind: type[Caveat]) -> str:
    rows = [
        (_code(wire(caveat)), _code(example.python), _code(example.shell), _words(caveat.sentence()))
        for example in CAVEATS[kind]
        for caveat in (built(example),)
    ]
    codes = dict.fromkeys(refused()[0] for refused in REFUSED[kind])
    place = f"Place: {PLACES[kind].value}. " if kind in PLACES else ""
    if kind is Budget:
        place = "Only the authority's block may have one that names its counter. "
    refusals = f"{place}Denies with {', '.join(map(_code, codes))}.\n"
    return "\n".join([_about(kind), refusals, _table(_COLUMNS, rows)])


def _constraint(kind: type[Constraint]) -> str:
    judged = CONSTRAINTS[kind]
    rows: list[tuple[str, ...]] = []
    for example in judged.examples:
        caveat = constrained(example)
        option = None if example.shell is None else f"--with {example.shell}"
        form = json.dumps(json.loads(wire(caveat))[2], separators=(",", ":"), ensure_ascii=False)
        rows.append((_code(form), _code(example.python), _code(option), _words(f"x {caveat.constraint.sentence()}")))
    first = constrained(judged.examples[0]).constraint
    verdicts = [
        f"{said}: {', '.join(_value(value) for value in values)}."
        for said, values, wanted in (
            ("Yes", judged.yes, True),
            ("No", judged.no, False),
            ("Cannot judge", judged.cannot, None),
        )
        if _judged(first, values, wanted)
    ]
    which = "" if len(rows) == 1 else f"By {_code(judged.examples[0].python)}: "
    return "\n".join([_about(kind), _table(_COLUMNS, rows), which + " ".join(verdicts) + "\n"])


def _judged(constraint: Constraint, values: tuple[Value, ...], wanted: Judgement) -> bool:
    """Whether there are such values; all of them must be judged so."""
    for value in values:
        if constraint.judge(value) is not wanted:
            raise ValueError(f"{constraint} does not say {wanted} to {value!r}")
    return bool(values)


def _about(kind: type[Wire]) -> str:
    """The heading, the wire form by field names, the docstring and the fields."""
    tag = kind.__struct_config__.tag
    name = kind.__name__ if tag is None else str(tag)
    needed = DEFINED[kind.__name__]["minItems"] - (tag is not None)
    fields = [field + "?" * (at >= needed) for at, field in enumerate(kind.__struct_fields__)]
    form = ", ".join([*([] if tag is None else [f'"{tag}"']), *fields])
    items = DEFINED[kind.__name__]["prefixItems"][tag is not None :]
    rows = [(_code(field), _limits(item)) for field, item in zip(fields, items, strict=True)]
    return "\n".join(
        [f"### {name}\n\n`[{form}]`\n\n{meaning(kind)}\n", *([_table(("field", "is"), rows)] if rows else [])]
    )


def _limits(form: dict[str, Any]) -> str:
    """A field's form in words."""
    if "$ref" in form:
        name = form["$ref"].rpartition("/")[2]
        anchor = "constraints" if name == "constraint" else name.lower() if name.istitle() else "kinds-of-fields"
        return f"[{name}](#{anchor})" + (f", {form['default']} unless said" if "default" in form else "")
    if "anyOf" in form:
        return " or ".join(dict.fromkeys(map(_limits, form["anyOf"])))
    if "enum" in form:
        return " or ".join(map(_code, form["enum"]))
    if form["type"] == "array":
        return f"an array of {'one or more' if form.get('minItems') else 'any number of'}: {_limits(form['items'])}"
    if form["type"] == "string":
        return _text_limits(form)
    if form["type"] in {"integer", "number"}:
        what = "an integer" if form["minimum"] >= 0 else "a number"
        return f"{what} from {_bound(form['minimum'])} to {_bound(form['maximum'])}"
    return str(form["type"])


def _text_limits(form: dict[str, Any]) -> str:
    sizes = ["not empty"] if "minLength" in form else []
    sizes += [f"at most {form['maxLength']} characters"] if "maxLength" in form else []
    spelled = [_code(form["pattern"][len("^(?:") : -len(")$")])] if "pattern" in form else []
    never = [f"without `{form['not']['pattern']}`"] if "not" in form else []
    return ", ".join(["a text", *spelled, *sizes, *never])


def _bound(number: int) -> str:
    return {2**53 - 1: "2⁵³ - 1", 1 - 2**53: "-(2⁵³ - 1)"}.get(number, str(number))


def _kinds_of_fields() -> str:
    rows = [
        (name, _limits(form), form.get("description", "-"))
        for name, form in DEFINED.items()
        if name.islower() and name not in {"caveat", "constraint"}
    ]
    return _table(("kind", "is", "and"), rows)


def built(example: Example) -> Caveat:
    """What a caveat's example makes; its options must mean the same."""
    (caveat,) = resolved([eval(example.python, dict(vars(capx_caveats)))], now=0)
    if example.shell is not None and typed(example.shell) != (caveat,):
        raise ValueError(f"{example.shell} is not {example.python}")
    return caveat


def constrained(example: Example) -> Where:
    """What a constraint's example makes, about the argument x; its options must mean the same."""
    found = Where("args.x", eval(example.python, dict(vars(capx_caveats))))
    if example.shell is not None:
        if typed(f"--allow a --with {example.shell}") != (allow(Entry("a", (Pair("x", found.constraint),))),):
            raise ValueError(f"{example.shell} is not {example.python}")
        if typed(f"--where args.{example.shell}") != (found,):
            raise ValueError(f"--where args.{example.shell} is not {example.python}")
    return found


@click.command(cls=arguments.Ordered)
@arguments.allow_options()
@arguments.caveat_options()
def options(*, allows: arguments.Allows, narrowing: arguments.Narrowing) -> tuple[Caveat, ...]:
    """Everything by which a shell narrows."""
    entries = allows.entries()
    return (*([allow(*entries)] if entries else []), *resolved(narrowing.caveats(), now=0))


def typed(words: str) -> tuple[Caveat, ...]:
    """What these options mean."""
    return cast("tuple[Caveat, ...]", options.main(shlex.split(words), standalone_mode=False))


def wire(caveat: Caveat) -> str:
    """The caveat as it stands in a block; it must read back as it was written."""
    block = encode_block((caveat,))
    if DEFAULT.decode(block) != (caveat,):
        raise ValueError(f"{caveat} does not read back")
    return block.decode()[1:-1]


def _value(value: object) -> str:
    return "nothing there" if value is MISSING or value is UNSET else _code(json.dumps(value, ensure_ascii=False))


def _code(text: str | None) -> str:
    return "-" if text is None else f"`{text}`"


def _words(text: str) -> str:
    return text.replace("*", "\\*")


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"

    titles = tuple(head)
    return line(titles) + "|" + "---|" * len(titles) + "\n" + "".join(map(line, rows))
