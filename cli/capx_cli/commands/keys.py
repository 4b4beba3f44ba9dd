"""`capx keys`: manage the root keys of this home, and the key files of resources."""

import sys
from pathlib import Path

import click

from capx.crypto import private_file
from capx.crypto.keys import AudienceKeys, RootKey
from capx_cli import agent_keys, completion, phrases, screen, target
from capx_cli.arguments import out_option
from capx_cli.failure import Unusable
from capx_cli.view import View, json_option

_ITS_KEYS = "changes the root keys, which stay with their authority"


@click.group(cls=phrases.InOrder)
def keys() -> None:
    """Export keys to resources, and rotate the root keys of this home.

    To rotate without an outage: `add` a key. `export` to every resource, and restart it. `activate` the new key.
    `retire` the old key when no live task holds tokens of it. A service reads its key file only when it starts. A
    process that opened this home keeps minting with the key that was active then. So restart both in between.

    Example: capx keys list
    """


@keys.command(short_help="Write the key file of one audience.")
@click.argument("audience", shell_complete=completion.audiences)
@out_option("Write to a new file that only you may read, not to standard output (-).")
@click.option("--replace", is_flag=True, help="Replace FILE as a whole if it exists.")
@agent_keys.public_option("--seal-to", "Seal it: only the owner of this public key can open it, with capx unseal.")
def export(audience: str, out: Path | None, replace: bool, seal_to: str | None) -> None:
    """Write the key file of one audience: a secret, only for that resource.

    The file has one key for each live root key. With it the resource verifies tokens by itself. It cannot verify or
    mint for any other audience. A presentation is for an audience, not for a host: all services with this file must
    share one memory of presentations. Give a staging system an audience of its own, such as crm.staging. A service
    reads the file when it starts: export again, and restart it, before `capx keys activate`. Without --out the secret
    goes to standard output, for a pipe, but never to a terminal.

    With --seal-to, only the owner of that key can open the file, with capx unseal --keys. So it can go where others may
    read it.

    Example: capx keys export crm --out crm.keys --replace
    """
    if replace and out is None:
        raise click.UsageError("--replace needs --out FILE")
    if out is None and seal_to is None and sys.stdout.isatty():
        raise click.UsageError("a key is a secret and is not written to a terminal: give --out FILE, or use a pipe")
    with target.home_authority("capx keys export") as authority:
        exported = authority.export_keys(audience, seal_to=seal_to)
    text = None if seal_to is None else _sealed(exported, seal_to)
    if out is None:
        sys.stdout.write(text or exported.dump())
        return
    if out.is_dir():
        raise Unusable(f"{out} is a folder: name a file in it")
    if out.exists() and not replace:
        raise Unusable(f"{out} is there already: choose another name, or give --replace")
    if text is None:
        exported.save(out, replace=replace)
        screen.note(f"wrote {out}: a secret, only for {audience}", screen.GOOD)
        return
    private_file.save(out, text.encode, Unusable, over=replace)
    screen.note(f"wrote {out}: sealed to {seal_to}, only for {audience}", screen.GOOD)


def _sealed(exported: AudienceKeys, public: str) -> str:
    from capx.crypto.sealed import seal

    return f"{seal(exported.dump(), 'keys', public)}\n"


_KEYS: View[tuple[str, str, int]] = View(
    lambda key: dict(zip(("kid", "state", "live_tasks"), key, strict=True)),
    {"KID": "kid", "STATE": "state", "LIVE TASKS": "live_tasks"},
    {"active": screen.GOOD},
)


@keys.command("list", short_help="List the keys, and the live tasks of each.")
@json_option
@target.authority_option
def list_(as_json: bool) -> None:
    """List the live root keys, and how many live tasks hold tokens of each.

    The active key mints and verifies. All others verify.

    Example: capx keys list --json
    """
    with screen.busy("reading the log"), target.authority() as authority:
        kids = authority.kids().items()
    _KEYS.show([(kid, "verifies" if at else "active", tasks) for at, (kid, tasks) in enumerate(kids)], as_json)


@keys.command(short_help="Print the public keys that sign statements.")
def jwks() -> None:
    """Write the public keys that sign statements to standard output, as a JWK Set (RFC 7517).

    A third party verifies with them what capx statement writes. capx serve has the same at /jwks.json.

    Example: capx keys jwks > jwks.json
    """
    with target.home_authority("capx keys jwks") as authority:
        screen.as_json(authority.statements.jwks())


@keys.command(short_help="Add a key that verifies, but does not mint yet.")
def add() -> None:
    """Add a new root key, and write its id to standard output. It verifies, but does not mint yet.

    Example: kid=$(capx keys add)
    """
    from capx.authority.home import change_keys

    target.demand_home("capx keys add", _ITS_KEYS)
    key = RootKey.generate()
    change_keys(lambda ring: ring.added(key))
    screen.bare(key.kid)
    screen.note("added: it verifies, but does not mint yet", screen.GOOD)
    screen.note("Next: capx keys export to every resource, restart each, then capx keys activate", screen.QUIET)


@keys.command(cls=phrases.TakesIds, short_help="Let a key mint from now on.")
@click.argument("kid", shell_complete=completion.kids)
def activate(kid: str) -> None:
    """Let a key mint from now on. The key that minted before still verifies.

    A resource that has not read the new key denies all tokens of that key. So before this, export again and restart the
    services. A process that opened this home before keeps minting with the old key until you restart it.

    Example: capx keys activate "$kid"
    """
    from capx.authority.home import change_keys

    target.demand_home("capx keys activate", _ITS_KEYS)
    change_keys(lambda ring: ring.activated(kid))
    screen.note(f"{kid} mints from now on", screen.GOOD)
    # No record says whether the services were restarted, so warn each time.
    screen.note("Services that have not read this key deny what it mints: capx keys export, and restart each", "yellow")
    screen.note(
        "Next: restart what opened this home, and capx keys retire the old key when no live task holds it", screen.QUIET
    )


@keys.command(cls=phrases.TakesIds, short_help="Remove a key for good.")
@click.argument("kid", shell_complete=completion.kids)
@click.option("--force", is_flag=True, help="Also while live tasks hold tokens of it: these are denied then.")
def retire(kid: str, force: bool) -> None:
    """Remove a key for good. Its tokens are denied here at once, and at a resource after you export its keys again.

    You cannot retire the active key. You cannot retire a key while live tasks hold tokens of it: complete them first.
    The rows of the store that bear its mark get the mark of the active key. For a key that leaked, use --force: then
    they get none, and nothing is minted from them any more.

    Example: capx keys retire "$old"
    """
    from capx.authority.home import retire_key

    with screen.busy("reading the log"), target.home_authority("capx keys retire") as authority:
        kids = authority.kids()
    holding = kids.get(kid, 0)
    if holding and not force and kid != next(iter(kids)):
        tasks = "a live task holds" if holding == 1 else f"{holding} live tasks hold"
        raise click.UsageError(f"{tasks} tokens of {kid}: complete what capx task list --active shows, or use --force")
    retire_key(kid, leaked=force)
    screen.note(f"{kid} is retired: its tokens are denied", screen.GOOD)
    screen.note("Next: capx keys export to every resource, and restart each", screen.QUIET)
