"""Who answers on a terminal is asked after it was shown."""

import os
import pty
import select
import subprocess

import pytest

from capx.authority.authority import Authority
from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND
from tests.labs.inbox import as_, asks, opened
from tests.labs.office import Office
from tests.labs.processes import ended_with_test


def typed(capx: Shell, answer: str, *args: str) -> tuple[int, str]:
    """What a command says that asks on a terminal, and is answered once it has."""
    main, sub = pty.openpty()
    process = ended_with_test(
        subprocess.Popen((*COMMAND, *args), env={**capx.unmeasured, "TERM": "dumb"}, stdin=sub, stdout=sub, stderr=sub)
    )
    os.close(sub)
    said, told = b"", False
    try:
        while process.poll() is None or select.select([main], [], [], 0)[0]:
            if not select.select([main], [], [], 0.2)[0]:
                continue
            said += os.read(main, 65_536)
            if b"[y/N]" in said and not told:
                os.write(main, answer.encode())
                told = True
    except OSError:
        pass  # how Linux says that the other side has closed
    os.close(main)
    return process.wait(timeout=30), said.decode()


@pytest.mark.parametrize(
    ("command", "answer", "ended"),
    [
        ("approve", "y\n", (0, "approved")),
        ("approve", "n\n", (1, "pending")),
        ("approve", "\n", (1, "pending")),
        ("approve", "\x04", (130, "pending")),
        ("deny", "y\n", (0, "denied")),
        ("deny", "\n", (1, "pending")),
    ],
)
def test_who_answers_on_a_terminal_is_asked_after_it_was_shown(
    capx: Shell, office: Office, command: str, answer: str, ended: tuple[int, str]
) -> None:
    code, state = ended
    pending = asks(office, opened(office), amount=20)
    found, said = typed(capx, answer, "requests", command, "last", *as_(office, "ben"))
    assert found == code, said
    question = "Consent to all of this, as ben?" if command == "approve" else "Refuse this, for good, as ben?"
    assert said.index("only with amount 20") < said.index(question)
    assert ("Nothing was signed; the request still waits." in said) == (code == 1)
    other = f"To refuse it for good: capx requests deny {pending.request} --as ben"
    assert (other in " ".join(said.split())) == (command == "approve" and code == 1)
    with Authority.open_home(office.home) as authority:
        assert authority.request(pending.request).state == state
