"""Which authority a person knows at which place: one place has one authority, and one authority one place."""

from pathlib import Path

import pytest

from capx.authority.people.known import KnownAuthorities, OtherAuthority, UnknownAuthority
from capx.errors import ConfigurationProblem

HERE, ELSEWHERE = "https://capx.example", "https://evil.example"
OURS, OTHER = "OYZ7VqUQJ9PBa0YXjDBPsw", "A" * 22


def test_an_authority_is_known_once_it_was_confirmed(tmp_path: Path) -> None:
    file = tmp_path / "known"
    with pytest.raises(UnknownAuthority) as caught:
        KnownAuthorities(file).demand(HERE, OURS)
    assert (caught.value.origin, caught.value.authority) == (HERE, OURS)
    assert not file.exists()
    KnownAuthorities(file).demand(HERE, OURS, trust=OURS)
    KnownAuthorities(file).demand(HERE, OURS)
    assert file.read_text() == f"{HERE} {OURS}\n"
    assert file.stat().st_mode & 0o777 == 0o600


def test_what_is_confirmed_is_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(OtherAuthority, match=f"and not {OURS}"):
        KnownAuthorities(tmp_path / "known").demand(HERE, OTHER, trust=OURS)
    assert not (tmp_path / "known").exists()


def test_another_authority_at_a_known_place_is_refused(tmp_path: Path) -> None:
    known = KnownAuthorities(tmp_path / "known")
    known.demand(HERE, OURS, trust=OURS)
    with pytest.raises(OtherAuthority, match="Do not sign anything for it"):
        known.demand(HERE, OTHER, trust=OTHER)


def test_a_known_authority_at_another_place_is_refused(tmp_path: Path) -> None:
    # A hostile authority that names the epoch of ours would have people sign intents for ours.
    known = KnownAuthorities(tmp_path / "known")
    known.demand(HERE, OURS, trust=OURS)
    with pytest.raises(OtherAuthority, match=f"which you know at {HERE}"):
        known.demand(ELSEWHERE, OURS, trust=OURS)


def test_without_a_file_it_is_known_as_long_as_the_client_lives() -> None:
    known = KnownAuthorities()
    known.demand(HERE, OURS, trust=OURS)
    known.demand(HERE, OURS)
    with pytest.raises(OtherAuthority):
        known.demand(HERE, OTHER)


@pytest.mark.parametrize(
    "line", [HERE, f"{HERE} x", f"http://capx.example {OURS}", f"{HERE}/ {OURS}", f"{HERE}  {OURS}"]
)
def test_a_line_that_says_nothing_is_refused_with_its_number(tmp_path: Path, line: str) -> None:
    file = tmp_path / "known"
    file.touch(mode=0o600)
    file.write_text(f"# mine\n\n{line}\n")
    with pytest.raises(ConfigurationProblem, match="line 3"):
        KnownAuthorities(file)


def test_a_file_that_others_may_change_is_not_believed(tmp_path: Path) -> None:
    file = tmp_path / "known"
    file.write_text(f"{HERE} {OURS}\n")
    file.chmod(0o666)
    with pytest.raises(ConfigurationProblem):
        KnownAuthorities(file)
