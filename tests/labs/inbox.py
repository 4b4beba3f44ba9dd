"""The text or JSON that a command prints about a request."""

import json
from collections.abc import Callable
from typing import Any

from capx.authority.authority import Authority
from capx.tokens.bundle import Bundle
from capx.verify.ask import Pending
from tests.labs.office import Office

REFUND: dict[str, Any] = {"amount": 20}
"""What is asked for, where a test does not say it."""


def told(request: str, state: str, words: str) -> Callable[[str, str], bool]:
    """Whether it was said what became of a request, in words or as JSON."""

    def said(out: str, _: str) -> bool:
        for line in out.splitlines(keepends=True):
            if line.endswith("}\n"):
                one = json.loads(line)
                if (one["id"], one["state"]) == (request, state):
                    return True
            elif request in line and words in line:
                return True
        return False

    return said


def asks(office: Office, bundle: Bundle, **args: Any) -> Pending:
    """A request that waits, for a refund with these arguments."""
    with Authority.open_home(office.home) as authority:
        answer = authority.ask(bundle, "billing.refund", args=args or REFUND)
    assert isinstance(answer, Pending)
    return answer


def opened(office: Office, **said: Any) -> Bundle:
    with Authority.open_home(office.home) as authority:
        return authority.open(office.signed(authority, **said)).bundle


def as_(office: Office, name: str) -> tuple[str, ...]:
    return "--as", name, "--key-file", str(office.key_file(name))
