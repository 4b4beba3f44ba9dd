"""An authority whose policy has people for every part: who wants work done, who may consent to it, and who may not."""

import time
from pathlib import Path
from typing import Any

from capx.authority.home import create_home
from capx.intents.intent import Intent, SignedIntent
from capx.intents.principal_key import PrincipalKey

POLICY = """
[audience]
crm = "https://crm.internal"
warehouse = "https://warehouse.internal"
billing = "https://billing.internal"

[principal.ana]
key = "{ana}"
tenants = ["Acme"]
purposes = ["refund", "case"]

[principal.ben]
key = "{ben}"
groups = ["finance"]

[principal.eve]
key = "{eve}"
groups = ["sales"]

[purpose.refund]
ttl = "1h"

[[purpose.refund.grant]]
how = "at_open"
allow = ["crm.accounts.read"]

[[purpose.refund.grant]]
how = "on_request"
allow = ["warehouse.*"]

[[purpose.refund.grant]]
how = "ask"
approvers = ["finance"]
within = "{within}"
allow = ["billing.*"]

[purpose.case]
ttl = "1h"
require = ["ticket", "share", "marks"]

[[purpose.case.grant]]
how = "at_open"
allow."crm.cases.read" = {{ ticket = "{{intent.ticket}}", share = "{{intent.share}}", marks = "{{intent.marks}}" }}
"""


class Office:
    """A home in a folder, its policy, and the keys of the people in it."""

    def __init__(self, folder: Path, *, within: str = "30m", store: str | None = None) -> None:
        self.home = create_home(folder / "home", store=store)
        self.ana, self.ben, self.eve = map(PrincipalKey.generate, ("ana", "ben", "eve"))
        keys = {"ana": self.ana.public, "ben": self.ben.public, "eve": self.eve.public}
        self.rule(POLICY.format(**keys, within=within))
        for key in (self.ana, self.ben, self.eve):
            key.save(self.key_file(key.name))

    @property
    def policy(self) -> Path:
        return self.home / "policy.toml"

    def rule(self, policy: str) -> None:
        """Put a policy in the place of the one that there was."""
        draft = self.policy.with_suffix(".draft")
        draft.touch(mode=0o600)
        draft.write_text(policy)
        draft.replace(self.policy)

    def key_file(self, name: str) -> Path:
        return self.home.parent / f"{name}.key"

    def intent(self, authority: Any, **said: Any) -> Intent:
        """The intent of Ana; `authority` is anything that knows the epoch of the store."""
        meant: dict[str, Any] = {
            "principal": "ana",
            "authority": authority.epoch(),
            "purpose": "refund",
            "statement": "refund what they ask for",
            "tenant": "Acme",
            "now": int(time.time()),
        }
        return Intent.written(**(meant | said))

    def signed(self, authority: Any, **said: Any) -> SignedIntent:
        return self.ana.sign_intent(self.intent(authority, **said))
