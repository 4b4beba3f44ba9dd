"""The start of the demo: a policy, the two people in it, the first agent, a key for each of them, and the intent.

Law: the policy and the intent are files that anybody may read. Only its owner has a private key. The policy gives the
authority the public halves.
"""

import time
from pathlib import Path
from string import Template
from typing import NamedTuple

from capx import AgentKey
from capx.authority.people.known import FILE as KNOWN
from capx.authority.people.known import KnownAuthorities
from capx.intents.epoch import authority_of
from capx.intents.intent import Intent, SignedIntent
from capx.intents.principal_key import PrincipalKey
from capx.policy.file import FILE
from capx_cli.demo.data import DECK, TENANT

ANA, BO = "ana@our.example", "bo@our.example"
"""The person who wants the review, and the person who consents to its publication and approves credits."""
STATEMENT = (
    "Make the Q3 business review of Acme, publish it once Bo has agreed, and credit Acme for the import that failed."
)

POLICY = """\
[principal."ana@our.example"]
key = "$ana"
tenants = ["Acme"]
purposes = ["qbr"]

[principal."bo@our.example"]
key = "$bo"
groups = ["leads"]

[purpose.qbr]
ttl = "15m"
require = ["deck"]

[[purpose.qbr.grant]]                        # given when the task opens
how = "at_open"
allow = ["crm.accounts.list", "crm.accounts.read", "support.tickets.list", "support.tickets.read",
         "warehouse.tables.list", "slides.read"]

[[purpose.qbr.grant]]                        # six slides in all, whoever writes them
how = "at_open"
budget = { calls = 6 }
allow."slides.write" = { deck = "{intent.deck}", "*" = { anything = true } }

[[purpose.qbr.grant]]                        # given, and each credit needs a person who signs that very call
how = "at_open"
approval = { by = ["leads"] }
allow."crm.credit" = { id = { anything = true }, amount = { range = [1, 500] } }

[[purpose.qbr.grant]]                        # given to whoever finds out that they need it
how = "on_request"
allow = ["warehouse.revenue.read"]

[[purpose.qbr.grant]]                        # given if a person says yes
how = "ask"
approvers = ["leads"]
within = "10m"
allow."slides.publish" = { deck = "{intent.deck}" }
"""


class Charter(NamedTuple):
    """The intent, and the key files of the approver and of the agent that the intent names."""

    intent: SignedIntent
    approver: Path
    agent: Path

    @classmethod
    def write(cls, home: Path, authority: str) -> "Charter":
        """Make the keys, the policy of this home, and an intent for the authority of this epoch."""
        ana, bo, agent = PrincipalKey.generate(ANA), PrincipalKey.generate(BO), AgentKey.generate("orchestrator")
        people = home / "demo" / "people"
        people.mkdir(parents=True)
        ana.save(people / "ana.key")
        bo.save(people / "bo.key")
        agent.save(home / "demo" / "orchestrator.key")
        _write(home / FILE, Template(POLICY).substitute(ana=ana.public, bo=bo.public).encode())
        intent = ana.sign_intent(
            Intent.written(
                principal=ANA,
                authority=authority,
                purpose="qbr",
                statement=STATEMENT,
                tenant=TENANT,
                parameters={"deck": DECK},
                agent=agent.name,
                # Then nobody else can use the tokens, not even who opens the task.
                agent_key=agent.public,
                now=int(time.time()),
                not_after="1h",
            )
        )
        _write(people / "ana.intent", intent.text())
        return cls(intent, people / "bo.key", home / "demo" / "orchestrator.key")

    def introduction(self, url: str) -> dict[str, str]:
        """Let the approver know which authority is at this URL, as an operator does; return what else it is told."""
        id_ = authority_of(self.intent.intent.authority)
        KnownAuthorities(self.approver.with_name(KNOWN)).demand(url, id_, trust=id_)
        return {"authority": url, "key": str(self.approver)}


def _write(path: Path, data: bytes) -> None:
    """Write a file that nobody else may change, whatever the umask."""
    # The authority refuses a policy that others may write.
    path.touch(mode=0o600)
    path.write_bytes(data)
