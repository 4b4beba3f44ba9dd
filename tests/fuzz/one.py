"""Fuzz one target in this process: `python -m tests.fuzz.one TARGET FOLDER [libFuzzer's options] [INPUT …]`.

The folder gets the seeds, a dictionary, what the fuzzer grows out of them, and whatever makes the target fail. With
inputs, no others are tried: that is how a failure is seen again.
"""

import hashlib
import importlib
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

import atheris

TARGETS = (
    "wire",
    "blocks",
    "presentation",
    "signed",
    "sealed",
    "discharge",
    "approval_request",
    "http",
    "jsonrpc",
    "mcp",
    "listener",
    "interop",
)
INSTRUMENTED = ["capx", "capx_caveats"]
WORDS = """
    task intent root hop max_hops call until_completed expires not_before tenant allow where args. "*" budget fresh
    holder sig eq in range prefix path each any all not absent anything glob regex url host cidr contains length fields
    acme.multiple acme.region argv null true false 9007199254740991 -0 1e3 [[ ]] \\\\ud800 Capx capx1_ /../ %2F ://
    capxseal1_ agent principal capxd1_ approved signed approval approve cid audience node action args asked nonce
    jsonrpc id method params result error data: event: _meta arguments requestId PRESENT KNOWN LIST
    tools/call tools/list notifications/cancelled notifications/tools/list_changed dev.capx/asks
"""
"""What the fuzzer may write besides bytes: tags, and spellings that mean trouble."""


def main(arguments: list[str]) -> None:
    """Seed and fuzz."""
    name, folder = arguments[0], Path(arguments[1])
    with atheris.instrument_imports(include=INSTRUMENTED):
        target = importlib.import_module(f"tests.fuzz.{name}_target")
    seeds, grown, words = folder / "seeds", folder / "grown", folder / "words"
    shutil.rmtree(seeds, ignore_errors=True)
    for made in (seeds, grown):
        made.mkdir(parents=True, exist_ok=True)
    _plant(seeds, target.seeds())
    words.write_text("".join(f'"{word.replace(chr(34), chr(92) + chr(34))}"\n' for word in WORDS.split()))
    options = ["-max_len=20000", "-rss_limit_mb=2048", "-timeout=10", "-print_final_stats=1", f"-dict={words}"]
    inputs = [] if any(not given.startswith("-") for given in arguments[2:]) else [str(grown), str(seeds)]
    atheris.Setup([name, *options, f"-artifact_prefix={folder}/", *arguments[2:], *inputs], target.check)
    atheris.Fuzz()


def _plant(folder: Path, seeds: Iterable[bytes]) -> None:
    for seed in seeds:
        (folder / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)


if __name__ == "__main__":
    main(sys.argv[1:])
