"""The rooms whose tests are judged by mutants, each with the tests that judge it: all of them quick."""

from typing import Final

from msgspec import Struct


class Room(Struct, frozen=True):
    """A module, as it lies in the repository, and its tests."""

    source: str
    tests: tuple[str, ...]

    @property
    def flat(self) -> str:
        """Where the module lies once all packages stand side by side, as mutmut wants them."""
        return self.source.removeprefix("caveats/")


ROOMS: Final = {
    "chain": Room("capx/chain.py", ("tests/test_chain.py", "tests/test_wire.py", "tests/test_vectors.py")),
    "wire": Room("capx/wire.py", ("tests/test_wire.py", "tests/test_vectors.py")),
    "present": Room("capx/present.py", ("tests/test_present.py", "tests/test_vectors.py")),
    "verifier": Room(
        "capx/verifier.py",
        ("tests/test_verifier.py", "tests/test_present.py", "tests/test_wire.py", "tests/test_excess.py"),
    ),
    **{
        name: Room(f"caveats/capx_caveats/{name}.py", ("tests/caveats",))
        for name in ("caveats", "marks", "constraints", "texts", "network", "plain")
    },
}
