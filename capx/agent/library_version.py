"""The versions of a library that an adapter was made for.

Law: with another version, an adapter does not load: it might guard half of the calls.
"""

import re

from capx.errors import ConfigurationProblem


def demand_library(library: str, *, at_least: tuple[int, ...], below: int, extra: str | None = None) -> None:
    """Raise ConfigurationProblem unless a version of a library is installed that its adapter was made for.

    An adapter calls it when it is imported. `extra` is the extra of capx-auth that brings the library.
    """
    from importlib.metadata import PackageNotFoundError, version  # only adapters need it

    wanted = f"{library}>={'.'.join(map(str, at_least))},<{below}"
    try:
        found = version(library)
    except PackageNotFoundError:
        pip = "" if extra is None else f", with pip install 'capx-auth[{extra}]'"
        raise ConfigurationProblem(f"this adapter needs {library}: install {wanted}{pip}") from None
    release = re.match(r"\d+(\.\d+)*", found)
    numbers = tuple(map(int, release[0].split("."))) if release else ()
    if not at_least <= numbers < (below,):
        raise ConfigurationProblem(f"this adapter does not know {library} {found}: install {wanted}")
