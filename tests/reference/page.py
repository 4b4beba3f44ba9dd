"""Makes docs/reference/vocabulary.md from the classes, and from the results of the examples, which it executes."""

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
from capx_caveats.constraint import MAX_VALUES, MAX_WORK, Wire
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

`python -m tests.reference` makes this page from the classes. The examples were executed, and gave the wire forms,
sentences and codes of this page; a test executes them again. The [specification](../spec/vocabulary.md) is normative.
[block.schema.json](block.schema.json) is the JSON Schema (draft 2020-12) of a block.
`capx_caveats.schema.block_schema` makes it, also for a vocabulary with [caveats of your own](own-caveats.md).

Each block that a holder appends narrows a capability, since a call must satisfy each caveat of each block. A block has
1 to {MAX_CAVEATS} caveats and at most {MAX_BRACKETS} `[`. A caveat with an unknown tag, or of another form than on this
page, refuses: `not_understood`. In Python, a class cannot be built with values that it would not read: `InvalidCaveat`.

`?` marks an optional field. If it is not given, it is left out; it is never null. The names are those of
`capx_caveats`. The options are those of `capx mint`, `delegate` and `attenuate`. Write the text after `x=` of `--with`
in the same way after `--where args.x=`, and after `--where NAME=` for an attribute.
"""
_CAVEATS: Final = """## Caveats

Each caveat demands one thing of a call. All of them may be in any block, as often as you like. The verifier gives the
reason `incomplete_authority` if the authority's block lacks one that it must have: `task`, `root`, `until_completed`,
`expires` and `allow`, and `tenant` if the call has a tenant. The reasons of `allow` and `budget` may be
[requestable](../spec/reasons.md#requestable): the denial then says what to ask for.
"""
_CONSTRAINTS: Final = f"""## Constraints

A constraint judges one value: yes, no, or cannot judge. Only yes passes. `not` swaps yes and no, and leaves *cannot
judge* as it is. A constraint may be in a pair of `allow` or `fields`, in `where`, and in `each`, `any`, `all` and
`not`. If a value does not pass, the reason is `argument_refused`; in a `where` it is `attribute_missing` if the value
is missing.

Besides the cases listed for each, constraints cannot judge

- an array or object of more than {MAX_VALUES} values at all depths, if they look at each value;
- a text of more than {MAX_TEXT} characters: `path`, `url`, `glob` and `regex`;
- a value that would need more than {MAX_WORK:,} characters times steps.
"""
_COLUMNS: Final = ("wire form", "Python", "shell", "in words")
_PARTS: Final = "## Parts\n\nSome fields contain these. A part has no tag.\n"
_FIELDS: Final = """## Kinds of fields

A pattern must match the whole text. Bytes are base64url without padding, in the one canonical spelling.
"""


def page() -> str:
    """The page in Markdown."""
    marks = [kind for kind in DEFAULT.caveats if issubclass(kind, ChainCaveat)]
    others = [kind for kind in DEFAULT.caveats if kind not in marks]
    return "\n".join(
        [
            _HEAD,
            "## Marks\n\nThe mechanism reads marks. They demand nothing of a call. Each may be in a block only once.\n",
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
        place = "Place: in any block; with a counter, only in the authority's block. "
    refusals = f"{place}Refuses with {', '.join(map(_code, codes))}.\n"
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
    """Check that the constraint judges every value as wanted; False if there are no values."""
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
    """The form of a field, in words."""
    if "$ref" in form:
        name = form["$ref"].rpartition("/")[2]
        anchor = "constraints" if name == "constraint" else name.lower() if name.istitle() else "kinds-of-fields"
        return f"[{name}](#{anchor})" + (f", {form['default']} by default" if "default" in form else "")
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
    """Build the caveat of an example; its options must mean the same."""
    (caveat,) = resolved([eval(example.python, dict(vars(capx_caveats)))], now=0)
    if example.shell is not None and typed(example.shell) != (caveat,):
        raise ValueError(f"{example.shell} is not {example.python}")
    return caveat


def constrained(example: Example) -> Where:
    """Build the constraint of an example, for the argument x; its options must mean the same."""
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
    """Take every option with which a shell narrows a capability."""
    entries = allows.entries()
    return (*([allow(*entries)] if entries else []), *resolved(narrowing.caveats(), now=0))


def typed(words: str) -> tuple[Caveat, ...]:
    """Parse these options into caveats."""
    return cast("tuple[Caveat, ...]", options.main(shlex.split(words), standalone_mode=False))


def wire(caveat: Caveat) -> str:
    """The wire form of a caveat; it must read back as it was written."""
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
