"""The forms in which a decision is written: whole, and shorter ones for a log that refuses it.

Laws: the shorter forms leave out the refused values, then the evidence and the arguments that it shows, and the reasons
last: a holder can make the evidence too large for a log, and must not hide with it why they were denied. What was
encoded once is never read from the decision again, so a caller that changes a value later changes no form.
"""

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

from msgspec import UNSET, json
from msgspec.structs import replace

from capx.store.records import DecisionRecord
from capx.verify.decision import Decision

_PROOF: Final = frozenset({"digest", "chain", "presented", "approvals", "stated", "shown_args"})


def forms(decision: Decision) -> Iterator[DecisionRecord]:
    """Give the forms of a decision that can be encoded, those that say most first."""
    # A service's own caveat may refuse with a value that is not JSON.
    without_given = tuple(replace(refusal, given=UNSET) for refusal in decision.refusals)
    unproven = replace(decision, evidence=None, shown_args=None)
    for form in (decision, unproven):
        for refusals in (decision.refusals, without_given, ()):
            with suppress(Exception):
                first = DecisionRecord(form.id, form.at, json.encode(replace(form, refusals=refusals).body()))
                yield first
                yield from shorter(first)
                return


def shorter(record: DecisionRecord) -> Iterator[DecisionRecord]:
    """Give the shorter forms of a decision that was encoded, those that say most first."""
    body: dict[str, Any] = json.decode(record.body)
    reasons = [{name: value for name, value in each.items() if name != "given"} for each in body.get("reasons", ())]
    unproven = {name: value for name, value in body.items() if name not in _PROOF}
    silent, neither = ({name: form[name] for name in form if name != "reasons"} for form in (body, unproven))
    without_given = ({**form, "reasons": reasons} for form in (body, unproven)) if reasons else ()
    proven, bare = without_given or (body, unproven)
    for form in (proven, unproven, bare, silent, neither):
        yield DecisionRecord(record.id, record.at, json.encode(form))
