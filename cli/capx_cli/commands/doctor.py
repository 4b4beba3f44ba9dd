"""`capx doctor`: check whether this home and this installation work."""

import os
import stat
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from capx_cli import screen, target
from capx_cli.escape import without_passwords
from capx_cli.failure import DONE, UNUSABLE
from capx_cli.view import View, json_option

if TYPE_CHECKING:
    from capx.store.protocols import Reading, Store

Finding = tuple[str, str, str]
"""The thing that was checked, `ok`, `warning` or `FAIL`, and a sentence."""

OK, WARNING, FAIL = "ok", "warning", "FAIL"

_FINDINGS: View[Finding] = View(
    lambda finding: dict(zip(("what", "state", "says"), finding, strict=True)),
    {"CHECK": "what", "STATE": "state", "FINDING": "says"},
    {OK: screen.GOOD, WARNING: "yellow", FAIL: screen.LOUD},
)


@click.command()
@json_option
def doctor(as_json: bool) -> int:
    """Check home, keys, store, log and installation. The exit code is 3 if something is broken.

    If CAPX_AUTHORITY is https://…, check whether that authority knows you, and no home.

    Example: capx doctor
    """
    from capx.authority.home import home_folder

    with screen.busy("checking the log"):
        findings = list(_findings(home_folder()))
    _FINDINGS.show(findings, as_json)
    return UNUSABLE if any(state == FAIL for _, state, _ in findings) else DONE


def _findings(home: Path) -> Iterator[Finding]:
    from capx.authority.home import PLACE, ROOT_KEYS, STORE

    yield _python()
    yield from _distribution()
    if target.origin() is not None:
        yield _tried("authority", _knows_me)
        return
    if (place := target.elsewhere()) is not None:
        yield _tried("authority", lambda: _answers(place))
    yield _owned("home", home, f"{home} is a folder that only you may use")
    keys = _owned("root keys", home / ROOT_KEYS, "")
    if keys[1] == FAIL:
        yield keys
    else:
        yield (keys := _tried("root keys", lambda: _keys(home / ROOT_KEYS)))
        if keys[1] == OK:
            yield _tried("identity", lambda: _identity(home))
        if (left := home / f"{ROOT_KEYS}.new").exists():
            yield "root keys", WARNING, f"an interrupted change left {left}, which holds keys: remove it"
    if (home / PLACE).exists():
        yield (store := _tried("store", lambda: _reached(home)))
        if store[1] == OK:
            yield from _database(home)
    else:
        yield (store := _owned("store", home / STORE, "only you may read it"))
        if store[1] != FAIL and not all(os.access(path, os.W_OK) for path in (home, home / STORE)):
            yield "store", WARNING, f"{home / STORE} is read-only here: it can be looked at, and nothing can be written"
    yield _tried("log", lambda: _log(home))
    yield _tried("epoch", lambda: _epoch(home))
    yield (policy := _tried("policy", lambda: _policy(home)))
    if policy[1] == OK:
        yield from _consents(home)


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    return "python", OK if sys.version_info >= (3, 11) else FAIL, f"{version}, capx needs 3.11 or newer"


def _distribution() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        yield "installation", OK, f"capx-auth {version('capx-auth')}"
    except PackageNotFoundError:
        yield "installation", WARNING, "capx-auth is not installed as a distribution: pip install capx-auth"
    try:
        found = version("capx")
    except PackageNotFoundError:
        yield "name", OK, "the distribution is called capx-auth; capx on PyPI is an unrelated package"
    else:
        cure = "pip uninstall capx && pip install --force-reinstall capx-auth"
        yield "name", FAIL, f"the unrelated package capx {found} is installed and may shadow this one: {cure}"


def _owned(what: str, path: Path, good: str) -> Finding:
    from capx.crypto.private_file import open_to_others

    try:
        found = path.stat()
    except OSError as error:
        return what, FAIL, f"{path}: {error.strerror}: make a home with capx init, or set CAPX_HOME to one"
    if open_to_others(found):
        mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
        return what, FAIL, f"other users may read {path}: chmod {mode} {path}"
    if found.st_uid != os.getuid():
        return what, WARNING, f"{path} belongs to another user: chown it to yours"
    return what, OK, good


def _tried(what: str, check: Callable[[], str]) -> Finding:
    from capx.errors import CapxError

    try:
        return what, OK, check()
    except CapxError as error:
        return what, FAIL, without_passwords(str(error))


def _keys(path: Path) -> str:
    from capx.crypto.keys import KeyRing

    return f"only you may read them; mints with {KeyRing.load(path).active.kid}"


@contextmanager
def _reading(home: Path) -> "Generator[tuple[Store, Reading]]":
    from capx.authority.home import open_home_store

    with closing(open_home_store(home)) as store, store.read() as reading:
        yield store, reading


def _reached(home: Path) -> str:
    from capx.authority.home import PLACE

    with _reading(home) as (store, reading):
        reading.head()
        return f"{PLACE} names {store.place}, which answers"


def _database(home: Path) -> Iterator[Finding]:
    """Say what a database does when its machine is lost."""
    from capx.errors import CapxError
    from capx.store.continuity import unconfirmed

    try:
        with _reading(home) as (store, _):
            if (standbys := store.standbys()) is not None:
                yield "standbys", OK if standbys.waited_for == standbys.listed else WARNING, standbys.sentence
                with store.beating(), store.read() as reading:
                    problem = unconfirmed(reading.confirmation_age())
                says = "the server confirms writes" if problem is None else without_passwords(str(problem))
                yield "confirmation", OK if problem is None else FAIL, says
    except CapxError as error:
        yield "standbys", FAIL, without_passwords(str(error))


def _identity(home: Path) -> str:
    from capx.authority.home import ROOT_KEYS
    from capx.crypto.keys import KeyRing
    from capx.errors import ConfigurationProblem
    from capx.tokens.revocation_key import of_kid

    keys = KeyRing.load(home / ROOT_KEYS)
    with _reading(home) as (store, reading):
        authority = store.authority()
        revoked = reading.death(of_kid(keys.active.kid)) is not None
    keys.of(authority)
    if revoked:
        raise ConfigurationProblem(
            f"the root key {keys.active.kid} that mints was revoked, so nothing can be minted and no service believes "
            "the feed: activate another key that the services have, with capx keys activate"
        )
    return f"the store and the root keys are those of authority {authority}"


def _log(home: Path) -> str:
    from capx.store.check import check_store

    with _reading(home) as (_, reading):
        reached = check_store(reading)
        deaths = reading.head().deaths
    return f"{reached.position} events, each bound to the one before; {deaths} of them deaths"


def _epoch(home: Path) -> str:
    with _reading(home) as (_, reading):
        return f"{reading.head().epoch} is the name of this authority in intents"


def _policy(home: Path) -> str:
    from capx.policy.file import FILE, PolicyFile
    from capx.policy.policy import NO_POLICY

    policy = PolicyFile(home / FILE)()
    if policy is NO_POLICY:
        return f"there is no {FILE}: tasks can be opened by hand, but not on intents"
    return f"{FILE} names {len(policy.purposes)} purposes and {len(policy.principals)} principals"


def _consents(home: Path) -> Iterator[Finding]:
    """Warn about each grant that a person consented to and that gives more than the policy would now."""
    from capx.authority.requests.outdated import outdated_grants
    from capx.errors import CapxError
    from capx.policy.file import FILE, PolicyFile

    try:
        with _reading(home) as (_, reading):
            for grant in outdated_grants(reading, PolicyFile(home / FILE)(), now=int(time.time())):
                request, cure = grant.request, f"capx revoke {grant.capability} ends it now"
                lives = f"granted as request {request.id}, lives until task {request.task} ends"
                yield "consents", WARNING, f"{request.action} at {request.audience}, {lives}, and {grant.why}: {cure}"
    except CapxError as error:
        yield "consents", FAIL, without_passwords(str(error))


def _knows_me() -> str:
    from capx.intents.epoch import authority_of

    with target.person() as me:
        ahead = int(time.time()) - me.now.now
        me.prove()
        off = f"the clock here is {abs(ahead)} s {'ahead' if ahead > 0 else 'behind'}"
        clocks = "the clocks agree" if abs(ahead) < 2 else off
        return f"{me.origin} is the authority {authority_of(me.epoch())}, and knows {me.name} by this key; {clocks}"


def _answers(place: str) -> str:
    with target.authority() as authority:
        return f"{place} answers, up to position {authority.end()}; what follows is about the home here"
