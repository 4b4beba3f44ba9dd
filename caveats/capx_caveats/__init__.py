"""The vocabulary of capx: the caveats and constraints that a token can hold, and how each one judges a call.

    from capx_caveats import DEFAULT, Call, Facts, action, allow, one_of
    demand = allow(action("slides.write", deck=one_of("deck-42")))
    call = Call("slides.write", {"deck": "deck-7"})
    assert demand.refusal(Facts(call, now=0, age=0)).code == "argument_refused"

Everything here is a pure value: no code in this package does I/O or reads a clock.
"""

from capx_caveats import builders
from capx_caveats.amount import Amount, amount, is_amount, plus, rest_of, shown_amount
from capx_caveats.builders import *  # noqa: F403 # its `__all__` lists the functions that people write caveats with
from capx_caveats.builders import Appendable, Meant, Relative, as_constraint, as_entry, resolved
from capx_caveats.call import CALLS, Call, Facts
from capx_caveats.caveat import Caveat, Refusal
from capx_caveats.caveats import (
    Allow,
    Budget,
    Entry,
    Expires,
    Fresh,
    NotBefore,
    NotUnderstood,
    Tenant,
    UntilCompleted,
    Where,
)
from capx_caveats.chain_caveats import (
    Approved,
    ChainCaveat,
    Holder,
    Hop,
    Intent,
    MaxHops,
    Presented,
    Root,
    Sig,
    Signed,
    Step,
    Task,
)
from capx_caveats.constraint import Constraint, Judgement
from capx_caveats.constraints import AllOf, AnyConstraint, AnyOf, Each, Fields, Not, Pair
from capx_caveats.errors import CapxError, InvalidCaveat
from capx_caveats.levels import SAFE_INTEGER
from capx_caveats.names import OTHERS, is_action, is_attribute, is_audience, is_id, is_label, is_pattern
from capx_caveats.network import Cidr, Host, Url
from capx_caveats.placement import PLACES, Place, misplaced
from capx_caveats.shown_values import shown
from capx_caveats.texts import Argv, Glob, Path, Prefix, Regex
from capx_caveats.value_constraints import Absent, Anything, Contains, Eq, In, Length, Range
from capx_caveats.values import JSON, MISSING, Literal, Natural, Number, Text, Texts, Value, demand_dict, demand_json
from capx_caveats.vocabulary import DEFAULT, TooLarge, Vocabulary, encode_block
from capx_caveats.when import When, parse_duration, parse_instant, shown_duration, shown_instant
from capx_caveats.work_bound import Work, is_too_much, most_work

__all__ = [
    "CALLS",
    "DEFAULT",
    "JSON",
    "MISSING",
    "OTHERS",
    "PLACES",
    "SAFE_INTEGER",
    "Absent",
    "AllOf",
    "Allow",
    "Amount",
    "AnyConstraint",
    "AnyOf",
    "Anything",
    "Appendable",
    "Approved",
    "Argv",
    "Budget",
    "Call",
    "CapxError",
    "Caveat",
    "ChainCaveat",
    "Cidr",
    "Constraint",
    "Contains",
    "Each",
    "Entry",
    "Eq",
    "Expires",
    "Facts",
    "Fields",
    "Fresh",
    "Glob",
    "Holder",
    "Hop",
    "Host",
    "In",
    "Intent",
    "InvalidCaveat",
    "Judgement",
    "Length",
    "Literal",
    "MaxHops",
    "Meant",
    "Natural",
    "Not",
    "NotBefore",
    "NotUnderstood",
    "Number",
    "Pair",
    "Path",
    "Place",
    "Prefix",
    "Presented",
    "Range",
    "Refusal",
    "Regex",
    "Relative",
    "Root",
    "Sig",
    "Signed",
    "Step",
    "Task",
    "Tenant",
    "Text",
    "Texts",
    "TooLarge",
    "UntilCompleted",
    "Url",
    "Value",
    "Vocabulary",
    "When",
    "Where",
    "Work",
    "amount",
    "as_constraint",
    "as_entry",
    "demand_dict",
    "demand_json",
    "encode_block",
    "is_action",
    "is_amount",
    "is_attribute",
    "is_audience",
    "is_id",
    "is_label",
    "is_pattern",
    "is_too_much",
    "misplaced",
    "most_work",
    "parse_duration",
    "parse_instant",
    "plus",
    "resolved",
    "rest_of",
    "shown",
    "shown_amount",
    "shown_duration",
    "shown_instant",
]
__all__.extend(builders.__all__)
