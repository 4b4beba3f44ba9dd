"""Explains a decision to people: every restriction of a token, and whether it refuses the call.

Law: nothing is burnt, spent or recorded. Never act on an explanation.
"""

from collections.abc import Iterable, Iterator
from typing import NoReturn

from msgspec import Struct

from capx.tokens.lineage import Lineage, Section, may_refuse
from capx.verify.evaluator import Evaluator, caveat_refusals, in_words
from capx_caveats import Budget, Call, Facts, Refusal


class Restriction(Struct, frozen=True):
    """One caveat in words, the hop that added it (0 is the authority's grant), and its refusal, if it refuses."""

    hop: int
    hop_name: str | None
    sentence: str
    refusal: Refusal | None


class Explanation(Struct, frozen=True):
    """A decision step by step, for people: every restriction, and every refusal."""

    restrictions: tuple[Restriction, ...]
    refusals: tuple[Refusal, ...]
    lineage: Lineage | None

    @property
    def allowed(self) -> bool:
        """Whether nothing refuses."""
        return not self.refusals

    def __bool__(self) -> NoReturn:
        raise TypeError("an Explanation is neither true nor false: read its `allowed`")


def explanation(
    evaluator: Evaluator, lineage: Lineage, presentation: bytes | None, call: Call, unsigned: tuple[Refusal, ...]
) -> Explanation:
    """Explain the call, from step 6 on; of a token that has ended, only its end is a refusal.

    `unsigned` are the refusals of its signatures. If the call is too much work, there are no restrictions.
    """
    facts = evaluator.facts(call)
    ended = evaluator.ended_refusals(lineage, presentation, facts.now)
    if lineage.is_too_much_work(call):
        refusals = ended or [*unsigned, *evaluator.refusals(lineage, presentation, facts)]
        return Explanation((), tuple(refusals), lineage)
    beside = evaluator.chain_refusals(lineage, presentation, facts)
    walk = tuple(_restrictions(lineage, facts, evaluator.unaffordable(lineage, call)))
    refusals = ended or [*unsigned, *beside, *(each.refusal for each in walk if each.refusal is not None)]
    return Explanation(walk, tuple(refusals), lineage)


def _restrictions(lineage: Lineage, facts: Facts, unaffordable: Iterable[Refusal | None]) -> Iterator[Restriction]:
    budget_refusals = iter(unaffordable)
    for section in lineage.judged:
        for caveat in section.caveats:
            if may_refuse(caveat):
                single = Section(section.hop, section.name, (caveat,))
                refusal = next(caveat_refusals((single,), facts), None)
                if isinstance(caveat, Budget):
                    # Taken even if the caveat itself refuses: one of them belongs to each budget, in order.
                    exhausted = next(budget_refusals, None)
                    refusal = refusal or exhausted
                yield Restriction(section.hop, section.name, in_words(caveat), refusal)
