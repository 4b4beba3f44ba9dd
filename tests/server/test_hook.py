"""A hook shows nobody its secret, nor its URL, which often is one."""

from capx.server.notify.hook import KINDS, SECONDS, Hook


def test_a_hook_shows_neither_its_secret_nor_its_url() -> None:
    hook = Hook(name="pager", url="https://chat.example/SECRET", secret=b"SECRET" * 4, command=("/SECRET",))
    assert repr(hook) == str(hook) == "Hook('pager')"


def test_a_hook_is_told_of_everything_by_default() -> None:
    hook = Hook(name="pager", command=("/bin/true",))
    assert (hook.kinds, hook.private, hook.values, hook.denials) == (frozenset(KINDS), False, False, 10)


def test_a_delivery_has_ten_seconds() -> None:
    assert SECONDS == 10
