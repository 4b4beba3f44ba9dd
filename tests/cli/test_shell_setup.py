"""The completion of a shell."""

from typing import Any

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_setup_prints_completion(capx: Any, shell: str) -> None:
    assert "_CAPX_COMPLETE" in capx("shell-setup", SHELL=f"/bin/{shell}").out


def test_completion_knows_the_commands(capx: Any) -> None:
    said = capx(_CAPX_COMPLETE="bash_complete", COMP_WORDS="capx re", COMP_CWORD="1").out
    assert said == "plain,revoke\nplain,requests\n"
