"""A file of hooks: what it says, all its mistakes at once, and the files that nobody may have changed."""

import base64
import os
from pathlib import Path

import pytest

from capx.errors import ConfigurationProblem
from capx.policy.toml_reader import InvalidFile
from capx.server.notify.file import MOST, load_hooks
from capx.server.notify.hook import KINDS, Hook
from tests.labs.hooks import secret, write_file

URL = 'url = "https://pager.example/x"\n'


def lines(path: Path) -> tuple[str, ...]:
    with pytest.raises(InvalidFile) as caught:
        load_hooks(path)
    assert "whsec_A" not in str(caught.value)
    for part in ("pager.example", "1.2.3.400", "v1.x", "HIDDEN"):
        assert part not in str(caught.value)
    return caught.value.lines


def test_a_file_has_hooks_by_url_and_by_command(tmp_path: Path) -> None:
    (tmp_path / "chat.secret").touch(mode=0o600)
    (tmp_path / "chat.secret").write_text(f"{secret(2)}\n")
    path = write_file(
        tmp_path,
        f'[hook.pager]\n{URL}secret = "{secret()}"\nkinds = ["request_waits", "task_denied"]\ndenials = 3',
        '[hook.chat]\nurl = "http://chat.internal/"\nsecret_file = "chat.secret"\nprivate = true\nvalues = true',
        '[hook.desk]\ncommand = ["/usr/bin/logger", "-t", ""]',
    )
    assert load_hooks(path) == (
        Hook(
            name="pager",
            url="https://pager.example/x",
            secret=b"\1" * 32,
            kinds=frozenset({"request_waits", "task_denied"}),
            denials=3,
        ),
        Hook(name="chat", url="http://chat.internal/", secret=b"\2" * 32, private=True, values=True),
        Hook(name="desk", command=("/usr/bin/logger", "-t", "")),
    )


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    told = lines(
        write_file(
            tmp_path,
            f'[hook.a]\n{URL}secrets = "x"',
            f'[hook.b]\n{URL}secret = "whsec_AAAA"',
            f'[hook.c]\n{URL}secret = "{secret()}"\nkinds = ["request_wait"]\nprivate = 1\ndenials = true',
            "[hook.d]\nvalues = true",
            '[hook.e]\ncommand = ["logger"]',
            f'[hook.F]\n{URL}secret = "{secret()}"',
        )
    )
    assert told == (
        "hook.a.secrets: unknown key: did you mean secret?",
        "hook.b.secret: is no secret of Standard Webhooks: whsec_ and base64 of 24 to 64 bytes",
        'hook.c.kinds[1]: "request_wait" is no kind: did you mean request_waits?',
        "hook.c.private: is a number, but must be true or false",
        "hook.c.denials: must be a whole number from 1 to 1000",
        "hook.d: needs a url or a command, and not both",
        'hook.e.command[1]: "logger" is not the full path of a program: begin it with /',
        "hook.F: is no name of a hook: 1 to 40 lower-case letters, digits and dashes",
    )


@pytest.mark.parametrize(
    ("table", "mistake"),
    [
        (f'url = "https://pager.example/"\ncommand = ["/a"]\nsecret = "{secret()}"', ": needs a url or a command"),
        (URL, ": needs secret or secret_file"),
        (f'{URL}secret = "{secret()}"\nsecret_file = "x"', ": needs secret or secret_file"),
        ('command = ["/a"]\nsecret_file = "x"', ".secret_file: has no effect on a command"),
        ('command = ["/a"]\nprivate = true', ".private: has no effect on a command"),
        (f'url = "http://pager.example/"\nsecret = "{secret()}"', ".url: is not https"),
        (f'url = "ftp://pager.example/"\nsecret = "{secret()}"', ".url: is no URL of a web server"),
        (f'url = "https://me:pw@pager.example/"\nsecret = "{secret()}"', ".url: has a user name in it"),
        (f'url = "https://pager.example:99999/"\nsecret = "{secret()}"', ".url: is no URL"),
        (f'url = "https://1.2.3.400/HIDDEN"\nsecret = "{secret()}"', ".url: is no URL"),
        (f'url = "https://[v1.x]/HIDDEN"\nsecret = "{secret()}"', ".url: is no URL"),
        (f'url = "https://pager.example/{"HIDDEN" * 20_000}"\nsecret = "{secret()}"', ".url: is no URL"),
        (f'url = "https://pager.example/#x"\nsecret = "{secret()}"', ".url: has a fragment"),
        (f'url = "https://pager.example/\\u202e"\nsecret = "{secret()}"', ".url: has a fragment"),
        (f'{URL}secret = "{secret()[6:]}"', ".secret: is no secret"),
        (f'{URL}secret = "whsec_ä"', ".secret: is no secret"),
        (f'{URL}secret_file = "nobody"', ".secret_file: "),
        (f'{URL}secret = "{secret()}"\nkinds = []', ".kinds: is empty"),
        (f'{URL}secret = "{secret()}"\nkinds = ["request_waits"]\ndenials = 3', ".denials: has no effect"),
        ('command = []', ".command: is empty"),
        ('command = ["/a", "b\\u0000"]', ".command[2]: is not a text"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_place(tmp_path: Path, table: str, mistake: str) -> None:
    (only,) = lines(write_file(tmp_path, f"[hook.pager]\n{table}"))
    assert only.startswith(f"hook.pager{mistake}")


@pytest.mark.parametrize(("size", "taken"), [(23, False), (24, True), (64, True), (65, False)])
def test_a_secret_has_24_to_64_bytes(tmp_path: Path, size: int, taken: bool) -> None:
    text = "whsec_" + base64.b64encode(bytes(size)).decode()
    path = write_file(tmp_path, f'[hook.pager]\n{URL}secret = "{text}"')
    if taken:
        assert load_hooks(path)[0].secret == bytes(size)
    else:
        assert "secret" in lines(path)[0]


def test_two_hooks_never_share_a_secret(tmp_path: Path) -> None:
    path = write_file(tmp_path, *(f'[hook.{name}]\n{URL}secret = "{secret()}"' for name in ("a", "b")))
    assert lines(path) == ("hook.b: has the secret of hook.a: give each hook its own",)


def test_a_file_has_at_least_one_hook_and_not_too_many(tmp_path: Path) -> None:
    assert lines(write_file(tmp_path, "")) == ("hook: is missing: add it",)
    assert lines(write_file(tmp_path, "[hook]")) == ("hook: has 0 hooks, but must have 1 to 20",)
    many = "\n".join(f'[hook.h{nth}]\ncommand = ["/a"]' for nth in range(MOST + 1))
    assert lines(write_file(tmp_path, many)) == ("hook: has 21 hooks, but must have 1 to 20",)


def test_a_file_that_others_can_change_is_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path, '[hook.a]\ncommand = ["/a"]')
    path.chmod(0o620)
    with pytest.raises(ConfigurationProblem, match="may be changed by others"):
        load_hooks(path)
    path.chmod(0o644)
    assert load_hooks(path)[0].kinds == set(KINDS)


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path, f'[hook.a]\n{URL}secret = "{secret()}"')
    path.chmod(0o644)
    assert lines(path) == (f"hook.a.secret: others can read this file: chmod 600 {path}",)
    (tmp_path / "own").write_text(secret())
    (tmp_path / "own").chmod(0o644)
    path.write_text(f'[hook.a]\n{URL}secret_file = "own"')
    (only,) = lines(path)
    assert only.startswith(f"hook.a.secret_file: {tmp_path / 'own'} may be read or changed by others")


def test_a_pipe_is_refused_and_nobody_waits_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(ConfigurationProblem, match="not a regular file"):
        load_hooks(tmp_path / "pipe")
    with pytest.raises(ConfigurationProblem, match="cannot be read"):
        load_hooks(tmp_path / "nothing")
