"""Which authority is at which place: confirmed once, kept in a file, and never exchanged unseen."""

import pickle
from pathlib import Path

import pytest

from capx.authority.people.known import KnownAuthorities, OtherAuthority, UnknownAuthority
from capx.crypto import private_file
from capx.crypto.base64url import b64u
from capx.errors import ConfigurationProblem

HERE, THERE = "https://capx.example", "https://capx.example:8443"
ONE, TWO = b64u(bytes(16)), b64u(bytes([1] * 16))


@pytest.mark.parametrize("kept", [True, False])
def test_an_authority_is_known_once_it_was_trusted(tmp_path: Path, kept: bool) -> None:
    path = tmp_path / "known" if kept else None
    known = KnownAuthorities(path)
    with pytest.raises(UnknownAuthority, match=f"{HERE} is the authority {ONE}") as error:
        known.demand(HERE, ONE)
    assert (error.value.origin, error.value.authority) == (HERE, ONE)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)
    known.demand(HERE, ONE, trust=ONE)
    known.demand(HERE, ONE)
    if path is not None:
        assert path.read_text() == f"{HERE} {ONE}\n"
        assert path.stat().st_mode & 0o777 == 0o600
        KnownAuthorities(path).demand(HERE, ONE)


def test_nothing_is_trusted_that_the_place_does_not_say(tmp_path: Path) -> None:
    known = KnownAuthorities(tmp_path / "known")
    with pytest.raises(OtherAuthority, match=f"{ONE}, and not {TWO}"):
        known.demand(HERE, ONE, trust=TWO)
    assert not (tmp_path / "known").exists()


@pytest.mark.parametrize(
    ("place", "authority", "says"),
    [
        pytest.param(HERE, TWO, f"you know {ONE} there", id="another authority at a known place"),
        pytest.param(THERE, ONE, f"which you know at {HERE}", id="a known authority at another place"),
    ],
)
def test_what_differs_from_what_is_known_is_refused(tmp_path: Path, place: str, authority: str, says: str) -> None:
    known = KnownAuthorities(tmp_path / "known")
    known.demand(HERE, ONE, trust=ONE)
    for trust in (None, authority):
        with pytest.raises(OtherAuthority, match=says):
            known.demand(place, authority, trust=trust)


def test_another_authority_than_the_trusted_one_is_refused(tmp_path: Path) -> None:
    known = KnownAuthorities(tmp_path / "known")
    with pytest.raises(OtherAuthority, match=f"and not {TWO}"):
        known.demand(HERE, ONE, trust=TWO)
    known.demand(HERE, ONE, trust=ONE)
    with pytest.raises(OtherAuthority, match=f"and not {TWO}"):
        known.demand(HERE, ONE, trust=TWO)


def test_people_write_lines_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.touch(mode=0o600)
    path.write_text(f"# our own\n\n{HERE} {ONE}\n")
    KnownAuthorities(path).demand(HERE, ONE)


@pytest.mark.parametrize(
    "line", ["capx.example AAAA", f"{HERE} AAAA", f"{HERE}", f"http://capx.example {ONE}", f"{HERE}/ {ONE}", "\xe9"]
)
def test_a_line_that_says_nothing_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "known"
    path.touch(mode=0o600)
    path.write_text(f"{THERE} {TWO}\n{line}\n")
    with pytest.raises(ConfigurationProblem, match="line 2"):
        KnownAuthorities(path)


def test_a_file_that_others_may_change_is_not_trusted(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_text(f"{HERE} {ONE}\n")
    path.chmod(0o666)
    with pytest.raises(ConfigurationProblem):
        KnownAuthorities(path)


def test_a_list_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    known = KnownAuthorities(tmp_path / "missing" / "known")
    with pytest.raises(ConfigurationProblem, match="cannot write"):
        known.demand(HERE, ONE, trust=ONE)


def test_what_another_process_has_added_counts(tmp_path: Path) -> None:
    path = tmp_path / "known"
    first, second = KnownAuthorities(path), KnownAuthorities(path)
    first.demand(HERE, ONE, trust=ONE)
    with pytest.raises(OtherAuthority, match=f"which you know at {HERE}"):
        second.demand(THERE, ONE, trust=ONE)
    with pytest.raises(OtherAuthority, match=f"you know {ONE} there"):
        second.demand(HERE, TWO, trust=TWO)
    KnownAuthorities(path).demand(HERE, ONE, trust=ONE)
    assert path.read_text() == f"{HERE} {ONE}\n"


def test_two_who_trust_the_same_at_once_write_one_line(tmp_path: Path) -> None:
    path = tmp_path / "known"
    first, second = KnownAuthorities(path), KnownAuthorities(path)
    for known in (first, second):
        known.demand(HERE, ONE, trust=ONE)
    assert path.read_text() == f"{HERE} {ONE}\n"


def test_nothing_is_added_while_another_holds_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_file, "_PATIENCE", 0.05)
    path = tmp_path / "known"
    with private_file.locked(path, ConfigurationProblem), pytest.raises(ConfigurationProblem, match="try again"):
        KnownAuthorities(path).demand(HERE, ONE, trust=ONE)
    assert not path.exists()


def test_a_line_without_its_newline_stays_a_line(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.touch(mode=0o600)
    path.write_text(f"{HERE} {ONE}")
    KnownAuthorities(path).demand(THERE, TWO, trust=TWO)
    assert path.read_text() == f"{HERE} {ONE}\n{THERE} {TWO}\n"
    KnownAuthorities(path).demand(THERE, TWO)


@pytest.mark.parametrize("line", [f"{HERE} {TWO}", f"{THERE} {ONE}"])
def test_a_repeated_place_or_authority_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "known"
    path.touch(mode=0o600)
    path.write_text(f"# ours\n{HERE} {ONE}\n{line}\n")
    with pytest.raises(ConfigurationProblem, match=r"line 3: .* is in line 2 already"):
        KnownAuthorities(path)
