"""`capx keys`: what resources verify with."""

import sys
from pathlib import Path

import click

from capx_cli import screen


@click.group()
def keys() -> None:
    """Export the keys that a resource verifies with.

    Example: capx keys export crm --out crm.keys
    """


@keys.command()
@click.argument("audience")
@click.option("--out", type=click.Path(path_type=Path), metavar="FILE", help="Write to a new file only you may read.")
def export(audience: str, out: Path | None) -> None:
    """Write the key file of one audience: a secret, for that resource alone.

    With it a resource verifies for itself; it can neither verify nor mint for any other.

    Example: capx keys export crm --out crm.keys
    """
    from capx.authority import Authority

    if out is None and sys.stdout.isatty():
        raise click.UsageError("a key is not for a screen: give --out FILE, or pipe it on")
    with Authority.open_home() as authority:
        exported = authority.export_keys(audience)
    if out is None:
        sys.stdout.write(exported.dump())
    else:
        exported.save(out)
        screen.note(f"wrote {out}: a secret, for {audience} alone", screen.GOOD)
