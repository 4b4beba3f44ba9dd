"""`capx serve`: serve the authority over HTTP, until a signal."""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from capx_cli import policies, screen, target
from capx_cli.failure import Unusable

if TYPE_CHECKING:
    from capx.authority.authority import Authority
    from capx.server.net.sockets import Address
    from capx.server.running import Plan

_NEEDED = ("starlette", "uvicorn", "prometheus_client", "httpx")
_MOST_ORIGINS = 8
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--listen",
    "at",
    default="127.0.0.1:8411",
    show_default=True,
    metavar="HOST:PORT",
    help="The address for agents, resources and people. Port 0 takes a free one.",
)
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The Unix socket for operators. Only you may use it. [default: authority.sock in the home]",
)
@click.option("--tls-cert", type=_FILE, metavar="FILE", help="The certificate of HOST, with its chain: serve HTTPS.")
@click.option("--tls-key", type=_FILE, metavar="FILE", help="The certificate's key, if it is in a file of its own.")
@click.option(
    "--people",
    multiple=True,
    metavar="ORIGIN",
    help="Where people dial this authority, such as https://capx.example; up to 8. Without it, only at a "
    "loopback address.",
)
@click.option("--insecure-public", is_flag=True, help="Listen without TLS at an address that other machines can reach.")
@click.option("--notify", type=_FILE, metavar="FILE", help="Tell the hooks of this file what waits for people.")
@click.option("--json", "as_json", is_flag=True, help="Write the addresses as JSON, on one line.")
def serve(
    *,
    at: str,
    path: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    people: tuple[str, ...],
    insecure_public: bool,
    notify: Path | None,
    as_json: bool,
) -> int:
    """Serve the authority of this home, to programs that must not open its store.

    Operators reach all of it over a Unix socket. Agents can end and revoke their own work over HTTP. Resources follow
    the feed of revocations and report decisions over HTTP. People open tasks on their intents and answer requests over
    HTTP, each with their own key. The first Ctrl-C, or SIGTERM, stops it in order.

    Example: capx serve --listen 127.0.0.1:8411
    """
    target.demand_operator()
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise Unusable(f"serving needs {', '.join(missing)}: pip install 'capx-auth[serve]'")
    from capx.authority.authority import Authority
    from capx.authority.home import ROOT_KEYS, home_folder
    from capx.errors import ConfigurationProblem
    from capx.server.net.sockets import SOCKET, Address, OwnSocket
    from capx.server.notify.file import load_hooks
    from capx.server.running import Plan
    from capx.server.running import serve as run

    try:
        address = Address.parse(at)
    except ConfigurationProblem as error:
        raise click.UsageError(f"--listen: {error}") from None
    tls = _tls(tls_cert, tls_key)
    dialled = _origins(people)
    if not address.is_local and not tls and not insecure_public:
        cure = "give --tls-cert, or put a proxy with TLS before it and give --insecure-public"
        raise click.UsageError(f"other machines can connect to {address} without encryption: {cure}")
    hooks = () if notify is None else load_hooks(notify)
    place = (path or home_folder() / SOCKET).absolute()
    with Authority.open_home() as authority:
        _tell_policy(authority)
        own = OwnSocket(place)
        try:
            plan = Plan(address, own, home_folder() / ROOT_KEYS, tls, dialled, hooks)
            return run(authority, plan, started=lambda bound: _say(authority, plan, bound, as_json))
        finally:
            own.remove()


def _tell_policy(authority: "Authority") -> None:
    """Note it if the policy cannot be used. The authority still serves: services must learn of revocations."""
    from capx.errors import ConfigurationProblem
    from capx.policy.toml_reader import InvalidFile

    try:
        _ = authority.policy
    except ConfigurationProblem as problem:
        if isinstance(problem, InvalidFile):
            policies.tell(problem)
        else:
            screen.note(str(problem), screen.BAD)
        screen.note("until it is corrected, no intent opens a task, and no ask is granted", screen.BAD)


def _origins(typed: tuple[str, ...]) -> tuple[str, ...]:
    from capx.api.person_auth import origin_of
    from capx.errors import InvalidRequest

    if len(typed) > _MOST_ORIGINS:
        raise click.UsageError(f"--people may be given up to {_MOST_ORIGINS} times")
    try:
        return tuple(dict.fromkeys(map(origin_of, typed)))
    except InvalidRequest as error:
        raise click.UsageError(f"--people: {error}") from None


def _tls(certificate: Path | None, key: Path | None) -> dict[str, Any]:
    """Return the TLS settings for uvicorn; Unusable if the files do not match."""
    if certificate is None:
        if key is not None:
            raise click.UsageError("--tls-key needs --tls-cert")
        return {}
    import ssl

    try:
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        cure = "; if its key is in a file of its own, give --tls-key" if key is None else ""
        raise Unusable(f"the certificate {certificate} cannot be served: {error.strerror or error}{cure}") from None
    return {"ssl_certfile": str(certificate), "ssl_keyfile": None if key is None else str(key)}


def _say(authority: "Authority", plan: "Plan", bound: "Address", as_json: bool) -> None:
    from capx.intents.epoch import authority_of

    id_, socket = authority_of(authority.epoch()), plan.socket.path
    url, people = f"{plan.scheme}://{bound}", plan.people_at(bound.port)
    standbys = authority.store.standbys()
    if as_json:
        shown = {"authority": id_, "socket": str(socket), "url": url, "people": list(people), "pid": os.getpid()}
        waits = None if standbys is None else {"waited_for": standbys.waited_for, "listed": standbys.listed}
        screen.as_json_line(shown | {"standbys": waits})
    else:
        screen.say(f"authority             {id_}")
        screen.say(f"operators             unix:{socket}", screen.STRONG)
        screen.say(f"agents and resources  {url}", screen.STRONG)
        for origin in people:
            screen.say(f"people                {origin}", screen.STRONG)
        if standbys is not None:
            screen.say(f"store                 {standbys.sentence}")
        screen.say(f"try: curl --unix-socket {socket} http://capx/tasks", screen.QUIET)
        screen.say("Ctrl-C stops it in order")
    sys.stdout.flush()
