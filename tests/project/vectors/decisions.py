"""Writes decisions.json beside it: tokens, the calls they are presented for, and what docs/spec says of each.

python -m tests.project.vectors.decisions

Nothing of capx is used: tokens and discharges are worked out with hashlib, hmac and PyNaCl, and what is expected is
written down.
"""

import json
from pathlib import Path
from typing import Any

from tests.project.vectors import about_approvals, about_blocks, about_bytes, about_calls, about_constraints, about_keys
from tests.project.vectors.making import DEFAULTS

ABOUT = {
    "what": "Each case is one token presented once; `expected` are the reason codes in order, none: allowed.",
    "token": "The text, and the discharges behind it, joined by commas. It may be cut, or no token at all.",
    "defaults": "What a case does not say is as it stands there.",
    "audience": "The verifier's.",
    "keys": "The verifier's audience keys by kid, in hex.",
    "received": "What came in: a tool call, or a request whose body is base64url. Its digest is what is presented.",
    "call": "The facts that caveats judge; absent: action and args as received, no tenant, no attributes, no defaults.",
    "now": "Unix seconds.",
    "age": "Seconds since deaths were last heard of; null: never.",
    "deaths": "By task, by id or node in base64url, by kid, and by the second up to which what was issued died, "
    "with the reason.",
    "seen": "Ids of presentations burnt before; null: the memory cannot tell.",
    "require": "What the authority's block must carry besides the rule.",
    "bearer": "Whether bare tokens are accepted.",
}
ALL = (
    about_bytes.chains,
    about_bytes.bytes_of_it,
    about_bytes.identifiers,
    about_bytes.keys,
    about_blocks.blocks,
    about_blocks.marks,
    about_blocks.authority,
    about_calls.caveats,
    about_constraints.constraints,
    about_calls.presentations,
    about_calls.deaths,
    about_calls.keys_and_instants,
    about_calls.at_the_authority,
    about_calls.third_parties,
    about_keys.signatures,
    about_approvals.demands,
    about_approvals.discharged,
    about_approvals.texts,
    about_approvals.not_of_this_token,
    about_approvals.shapes,
    about_approvals.misfits,
    about_approvals.deaths,
    about_approvals.restrictions,
    about_approvals.at_the_authority,
)


def vectors() -> dict[str, Any]:
    """Everything that stands in the file."""
    return {"about": ABOUT, "defaults": DEFAULTS, "cases": [case for make in ALL for case in make()]}


def written() -> str:
    """The file: one line for each case."""
    found = vectors()
    lines = ",\n".join("  " + json.dumps(case, ensure_ascii=False) for case in found.pop("cases"))
    return json.dumps(found, indent=1, ensure_ascii=False)[:-2] + ',\n "cases": [\n' + lines + "\n ]\n}\n"


if __name__ == "__main__":
    Path(__file__).with_name("decisions.json").write_text(written(), encoding="utf-8")
