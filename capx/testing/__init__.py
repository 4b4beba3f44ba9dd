"""For the tests of projects that use capx: fixtures, people, denials, and what adapters must do.

    from capx import Authority, acting
    from capx.testing import denied

    authority = Authority.temporary()

    @authority.tool("crm.export")
    def export(): ...

    with acting(authority.open(allow=["crm.read"]).bundle), denied("action_not_allowed", hop=0):
        export()

Write `pytest_plugins = ["capx.testing"]` into a conftest.py to have the fixtures `capx_authority`, `capx_bundle` and
`capx_clock`. Nothing registers them by itself, because capx would then be imported into every run of pytest. Nothing
but time and people is replaced: the authority, its store and its tokens are real ones.

A conftest.py may import names of this room before pytest registers it (PYTEST_DONT_REWRITE: no assertion here needs to
be rewritten, and pytest would warn that it comes too late).

Modules:

    fixtures        the fixtures, and the mark that gives an authority its policy
    clock           a clock that stands still, and who goes by it
    person          a person with a key: signs intents, answers what waits
    denials         a block in which a call must be denied
    adapters        whether an adapter for an agent framework does what it must
    rows            the rows of that: what must hold whatever the framework
    stage           what each row has: an authority with a policy, people, agents, and the adapter
    tools           the tools that it is given, which note when they run
    pytest_library  pytest, or an error that says how to get it
"""

from capx.testing.adapters import conformance
from capx.testing.clock import Clock
from capx.testing.denials import denied
from capx.testing.fixtures import OpensByHand, capx_authority, capx_bundle, capx_clock, pytest_configure
from capx.testing.person import Person
from capx.testing.stage import Adapter, ModelCall, NotConformant, Turn
from capx.testing.tools import Tool

__all__ = [
    "Adapter",
    "Clock",
    "ModelCall",
    "NotConformant",
    "OpensByHand",
    "Person",
    "Tool",
    "Turn",
    "capx_authority",
    "capx_bundle",
    "capx_clock",
    "conformance",
    "denied",
    "pytest_configure",
]
