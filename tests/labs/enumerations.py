"""Thousands of cases as one test: what each of them is, and all that fail."""

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest

SHOWN = 50
"""How many of the cases that fail are named."""


def each_case(
    names: str | tuple[str, ...], cases: Iterable[Any], ids: Callable[[Any], str] = repr
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test for each case, as `pytest.mark.parametrize` does, but all in one test, with the same fixtures.

    It is for cases that change nothing and take less time than a test costs. All run; those that fail are named, each
    with what it said, and the first one has its traceback. A case must not skip.
    """
    listed = list(cases)
    assert listed, "there are no cases"

    def decorate(test: Callable[..., None]) -> Callable[..., None]:
        parameters = (names,) if isinstance(names, str) else names

        @functools.wraps(test)
        def all_cases(**fixtures: Any) -> None:
            failed: dict[str, BaseException] = {}
            for number, case in enumerate(listed):
                values = (case,) if isinstance(names, str) else case
                try:
                    test(**fixtures, **dict(zip(parameters, values, strict=True)))
                except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:  # noqa: BLE001 - the others run
                    failed[f"{number} {'-'.join(map(ids, values))}"] = error
            if failed:
                said = [f"{case}: {type(error).__name__}: {error}"[:400] for case, error in failed.items()]
                listing = "\n".join(said[:SHOWN])
                first = next(iter(failed.values()))
                raise AssertionError(f"{len(failed)} of {len(listed)} cases fail:\n{listing}") from first

        signature = inspect.signature(test)
        kept = [each for name, each in signature.parameters.items() if name not in parameters]
        all_cases.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
        return all_cases

    return decorate
