"""The environment variables of an agent: its bundle, its authority, and its services.

    CAPX_TOKEN_FILE      a file that only its owner may read, with the bundle: recommended; or
    CAPX_TOKEN           the bundle itself
    CAPX_AUTHORITY_URL   the origin of the authority, such as https://authority.internal:8411
    CAPX_ORIGINS         crm=https://crm.internal,slides=https://slides.internal

Law: `take` removes the bundle from the environment, even if something else is wrong, so that no process that is started
from here inherits it.

This does not hide CAPX_TOKEN. On Linux, `/proc/PID/environ` shows to the same user the environment with which this
process was started, and its parent's. No process can change that for its parent. With CAPX_TOKEN_FILE only the name of
a file stands there.
"""

import os
import threading
from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from capx.crypto.private_file import explained, shown_to_others
from capx.errors import ConfigurationProblem, InvalidRequest, MalformedToken
from capx.tokens.bundle import MAX_TOKENS, Bundle
from capx_caveats import is_audience

_FILE: Final = "CAPX_TOKEN_FILE"
_TOKEN: Final = "CAPX_TOKEN"  # noqa: S105 # a name
_URL: Final = "CAPX_AUTHORITY_URL"
_ORIGINS: Final = "CAPX_ORIGINS"
_MAX_CHARACTERS: Final = MAX_TOKENS * (16 * 1024 + 1)
"""The most characters of a bundle: as many tokens as it can hold, each as long as a token may be."""

_taken = threading.Event()


class Found(Struct, frozen=True):
    """A bundle, the URL of the authority if one is set, and `origins`, which maps each origin to its audience."""

    bundle: Bundle
    url: str | None
    origins: Mapping[str, str]


def take() -> Found:
    """Read the environment, and take the bundle out of it; ConfigurationProblem says what is wrong."""
    # Take both out before any check can fail.
    named, text = os.environ.pop(_FILE, ""), os.environ.pop(_TOKEN, "")
    if not named and not text.strip():
        raise ConfigurationProblem(
            "this process has already taken its bundle out of the environment: pass on the agent that was made of it"
            if _taken.is_set()
            else f"this process has no bundle: set {_FILE} or {_TOKEN}"
        )
    _taken.set()
    origins, url = _origins(os.environ.get(_ORIGINS, "")), os.environ.get(_URL) or None
    if url is not None:
        _demand_origin(_URL, url)
    bundle = _bundle(_read(named) if named else text, f"the file that {_FILE} names" if named else _TOKEN)
    return Found(bundle, url, origins)


def _bundle(text: str, where: str) -> Bundle:
    try:
        return Bundle.parse(text.strip())
    except (MalformedToken, InvalidRequest) as error:
        raise ConfigurationProblem(f"{where} does not hold a bundle: {error}") from None


def _read(name: str) -> str:
    unreadable = f"the file that {_FILE} names, {name}, cannot be read"
    with explained(ConfigurationProblem, unreadable), open(name, "rb") as file:  # noqa: PTH123 # pathlib is slow to import
        # Of the open file, not of the name: the name could be exchanged between check and reading.
        if shown_to_others(os.fstat(file.fileno())):
            raise ConfigurationProblem(f"{name} holds a secret, but other users may read it: chmod 600 {name}")
        # A byte that is not ASCII becomes a character that no bundle has. Then `_bundle` reports it with a sentence.
        return file.read(_MAX_CHARACTERS + 1).decode("ascii", "replace")


def _origins(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for one in filter(None, map(str.strip, text.split(","))):
        audience, _, origin = one.partition("=")
        if not audience or not origin:
            raise ConfigurationProblem(f"{_ORIGINS} must be a list like crm=https://crm.internal, not {one!r:.80}")
        if not is_audience(audience):
            raise ConfigurationProblem(f"{_ORIGINS} names {audience!r:.80}, which is not an audience such as crm")
        _demand_origin(_ORIGINS, origin)
        if found.setdefault(origin, audience) != audience:
            raise ConfigurationProblem(f"{_ORIGINS} gives {origin} to both {found[origin]} and {audience}: name one")
    return found


def _demand_origin(variable: str, origin: str) -> None:
    from capx.agent.httpx_client import demand_origin  # needs httpx; the bundle is already out

    try:
        demand_origin(origin)
    except InvalidRequest as error:
        raise ConfigurationProblem(f"{variable}: {error}") from None
