"""`capx schema`: print the form of a block, for programs."""

import click

from capx_cli import screen


@click.command()
def schema() -> None:
    """Print the JSON Schema (draft 2020-12) of what a block of a token may hold, for editors and validators.

    Every verifier denies what the schema refuses. The descriptions say what a schema cannot check.

    Example: capx schema > block.schema.json
    """
    from capx_caveats.schema import block_schema

    screen.as_json(block_schema())
