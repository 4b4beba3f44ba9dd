"""Where a store or an authority is, typed wrong: nobody is shown what may hold a password."""

from pathlib import Path

import pytest

from tests.cli.conftest import Said, Shell

SECRET = "s3cret-pw"
NO_PLACES = (
    f"POSTGRESQL://u:{SECRET}@h/db",
    f"postgresql+psycopg://u:{SECRET}@h/db",
    f" postgresql://u:{SECRET}@127.0.0.1:1/db",
    f"host=h password={SECRET}",
    f"postgresql://u:{SECRET}@h:port/db",
    f"postgresql://u:{SECRET}@[::1/db",
)


def shows_no_secret(said: Said) -> bool:
    return SECRET not in said.out + said.err and said.err.count("\n") <= 1


@pytest.mark.parametrize("place", NO_PLACES)
def test_what_is_no_place_makes_no_home_and_is_not_shown(capx: Shell, tmp_path: Path, place: str) -> None:
    assert shows_no_secret(capx("init", "--store", place, code=3))
    file = tmp_path / "url"
    file.write_text(place.strip().replace("postgresql://u:s3cret-pw@127.0.0.1", "x://u:s3cret-pw@127.0.0.1"))
    assert shows_no_secret(capx("init", "--store-file", str(file), code=3))
    assert list(capx.home.iterdir()) == []


@pytest.mark.parametrize("place", NO_PLACES)
def test_a_home_that_names_no_place_does_not_show_it(capx: Shell, place: str) -> None:
    capx("init")
    (capx.home / "capx.db").unlink()
    named = capx.home / "store.place"
    named.write_text(f"{place}\n")
    named.chmod(0o600)
    for args in (("log",), ("store", "stats"), ("store", "check"), ("task", "list"), ("doctor", "--json")):
        assert shows_no_secret(capx(*args, code=3))
    assert capx("graph", _CAPX_COMPLETE="bash_complete", COMP_WORDS="capx graph ", COMP_CWORD="2").err == ""


def test_a_url_where_none_belongs_is_not_shown(capx: Shell) -> None:
    url = f"postgresql://u:{SECRET}@h/db"
    for args in (("init", url), ("doctor", url), ("init", "--store-file", url), (url,), ("task", "list", url)):
        assert shows_no_secret(capx(*args, code=2))
    for code, args in ((3, ("task", "list")), (2, ("store", "stats")), (3, ("doctor", "--json"))):
        assert shows_no_secret(capx(*args, code=code, CAPX_AUTHORITY=url))
    assert "--store takes the URL itself" in capx("init", "--store-file", url, code=2).err
