"""The environment variables of an agent: its bundle, its key, its authority, and its services.

    CAPX_TOKEN_FILE      a file that only its owner may read, with the bundle: recommended; or
    CAPX_TOKEN           the bundle itself
    CAPX_AGENT_KEY_FILE  the file of the agent's key, if its bundle is bound to one; only its owner may read it
    CAPX_AUTHORITY_URL   the origin of the authority, such as https://authority.internal:8411
    CAPX_ORIGINS         crm=https://crm.internal,slides=https://slides.internal

Laws: `take` removes the bundle, and the name of the key file, from the environment, even if something else is wrong, so
that no process that is started from here inherits them. If it fails, this process keeps the bundle for the next try. No
variable holds a key: a key is read from its file only.

This does not hide CAPX_TOKEN. On Linux, `/proc/PID/environ` shows to the same user the environment with which this
process was started, and its parent's. No process can change that for its parent. With CAPX_TOKEN_FILE only the name of
a file stands there.
"""

import os
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from capx.crypto.private_file import explained, shown_to_others
from capx.errors import ConfigurationProblem, InvalidRequest, KeyProblem, MalformedToken
from capx.tokens.bundle import MAX_TOKENS, Bundle
from capx_caveats import is_audience

if TYPE_CHECKING:
    from capx.crypto.agent_key import AgentKey

_FILE: Final = "CAPX_TOKEN_FILE"
_TOKEN: Final = "CAPX_TOKEN"  # noqa: S105 # a name
_KEY_FILE: Final = "CAPX_AGENT_KEY_FILE"
_URL: Final = "CAPX_AUTHORITY_URL"
_ORIGINS: Final = "CAPX_ORIGINS"
_MAX_CHARACTERS: Final = MAX_TOKENS * (16 * 1024 + 1)
"""The most characters of a bundle: as many tokens as it can hold, each as long as a token may be."""

_taken = threading.Event()
_kept: dict[str, str] = {}
"""What named or held the bundle in the environment, until `take` has succeeded with it."""


class Found(Struct, frozen=True):
    """A bundle with its holder's key, the URL of the authority, and `origins`: each origin, and its audience."""

    bundle: Bundle
    url: str | None
    origins: Mapping[str, str]


def take() -> Found:
    """Read the environment, and take the bundle out of it; ConfigurationProblem says what is wrong."""
    # Take all out before any check can fail.
    given = {name: os.environ.pop(name, "") for name in (_FILE, _TOKEN)}
    key_file = os.environ.pop(_KEY_FILE, "")
    if any(given.values()):
        _kept.update(given)
    named, text = _kept.get(_FILE, ""), _kept.get(_TOKEN, "")
    if not named and not text.strip():
        raise ConfigurationProblem(
            "this process has already taken its bundle out of the environment: pass on the agent that was made of it"
            if _taken.is_set()
            else f"this process has no bundle: set {_FILE} or {_TOKEN}"
        )
    origins, url = _origins(os.environ.get(_ORIGINS, "")), os.environ.get(_URL) or None
    if url is not None:
        _demand_origin(_URL, url)
    bundle = _bundle(_read(named) if named else text, f"the file that {_FILE} names" if named else _TOKEN)
    found = Found(_with_key(bundle, key_file), url, origins)
    _kept.clear()
    _taken.set()
    return found


def _with_key(bundle: Bundle, key_file: str) -> Bundle:
    """Return the bundle with its holder's key; ConfigurationProblem if the key is missing, or of somebody else."""
    if not key_file:
        if bundle.holder is None:
            return bundle
        raise ConfigurationProblem(
            f"the bundle is bound to the key {bundle.holder}, and this process has no key: set {_KEY_FILE} to the file "
            "of that key"
        )
    key = _key(key_file)
    if bundle.holder is None:
        raise ConfigurationProblem(
            f"the bundle is bound to no key, and {_KEY_FILE} names the file of the key {key.public}: open the task for "
            f"this key, or unset {_KEY_FILE}"
        )
    if key.public != bundle.holder:
        raise ConfigurationProblem(
            f"the bundle is bound to the key {bundle.holder}, and {key_file}, which {_KEY_FILE} names, holds the key "
            f"{key.public}: name the file of the other key, or get a bundle for this one"
        )
    return bundle.with_key(key)


def _key(name: str) -> "AgentKey":
    from pathlib import Path  # slow to import, as is the key

    from capx.crypto.agent_key import AgentKey

    try:
        return AgentKey.load(Path(name))
    except KeyProblem as problem:
        raise ConfigurationProblem(f"{_KEY_FILE}: {problem}") from None


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
