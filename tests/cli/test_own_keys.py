"""A key of one's own stands in the home, if no file is named."""

import stat
import subprocess
from pathlib import Path

from capx.intents.principal_key import PrincipalKey
from tests.cli.conftest import Shell
from tests.labs.commands import COMMAND


def test_a_key_without_a_file_named_stands_in_the_home(capx: Shell) -> None:
    for name in ("ana@our.example", "a/../../b", "Ana María"):
        public = capx("principal", "new", name).out.strip()
        (file,) = [each for each in (capx.home / "principals").iterdir() if PrincipalKey.load(each).public == public]
        assert PrincipalKey.load(file).name == name
    for folder in (capx.home, capx.home / "principals"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(list((capx.home / "principals").iterdir())) == 3
    capx("init")


def test_a_key_whose_public_half_was_not_written_shows_it_later(home: Shell) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            (*COMMAND, "principal", "new", "ana"),
            stdout=full,
            stderr=subprocess.PIPE,
            env=home.env,
            text=True,
            check=False,
        )
    (file,) = (home.home / "principals").iterdir()
    assert done.returncode == 3
    assert f"wrote {file}: " in done.stderr
    key = PrincipalKey.load(file)
    for args in (("ana",), ("--key-file", str(file)), ("ana", "--key-file", str(file))):
        said = home("principal", "show", *args)
        assert said.out == f"{key.public}\n"
        assert f'[principal."ana"]\n  key = "{key.public}"\n' in said.err
        assert file.read_text().split()[-1] not in said.err
    assert "give NAME" in home("principal", "show", code=2).err
    assert "there is no key of bo" in home("principal", "show", "bo", code=3).err
