"""Agents that note what they ask, functions that note when they run, and two small services.

The authority is real, in this process; nothing is faked but who waits for whom.
"""

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
from anyio.lowlevel import checkpoint

from capx.agent.agent import Agent
from capx.authority.authority import Authority
from capx.authority.in_process import InProcess, LocalAuthority
from capx.authority.opening import OpenedTask
from capx.authority.requests.verdict import Verdict
from capx.guard.asgi.guard import passage
from capx.guard.asgi.messages import Receive, Scope, Send
from capx.tokens.bundle import Bundle
from capx.verify.ask import Answer, Ask
from tests.labs.refunds import BEN, grant, policy

if TYPE_CHECKING:
    from capx_caveats import JSON

SPENT = grant("on_request") + 'budget = { calls = 1 }\nallow = ["billing.refund"]\n'
POLICY = policy(
    grant("at_open", "crm.tickets.read", "mail.drafts.read"),
    grant("on_request", "crm.accounts.read", "crm.notes.write", "sms.send", "billing.rates.read"),
    grant("on_request") + 'allow."billing.refund" = { amount = { range = [0.01, 50] } }\n',
    grant("ask") + 'allow."billing.refund" = { amount = { range = [50, 500] } }\n',
    grant("ask", "crm.accounts.delete"),
)


class Noting(InProcess):
    """An authority of this process that notes what it is asked, and can be made to wait before it answers."""

    def __init__(self, authority: LocalAuthority, bundle: Bundle) -> None:
        super().__init__(authority, bundle)
        self.asked: list[tuple[str, dict[str, JSON] | None]] = []
        self.open = threading.Event()
        self.open.set()

    def acting_for(self, bundle: Bundle, /) -> "Noting":
        other = type(self)(self._authority, bundle)
        other.asked, other.open = self.asked, self.open
        return other

    def answer(self, ask: Ask, wait: float) -> Answer:
        self.asked.append((f"{ask.action}@{ask.audience}", None if ask.args is None else dict(ask.args)))
        assert self.open.wait(30)
        return super().answer(ask, wait)


def noting(lab: Authority, task: OpenedTask, wait: float = 0.0) -> tuple[Agent, Noting]:
    authority = Noting(lab, task.bundle)
    return Agent(task.bundle, authority=authority, wait=wait), authority


def consent(lab: Authority, request: str, *, yes: bool = True) -> None:
    inquiry = lab.inquiry(request)
    lab.answer(Verdict.sign(inquiry, BEN, yes=yes, at=int(time.time())))


class Tools:
    """Guarded tools that note when they run."""

    def __init__(self, lab: Authority) -> None:
        self.ran: list[str] = []

        @lab.tool("crm.tickets.read", tenant="Acme")
        def tickets() -> str:
            return self._noted("tickets")

        @lab.tool("crm.accounts.read", tenant="Acme")
        def accounts(name: str = "Acme", *, deep: bool = False) -> str:
            return self._noted(f"accounts {name} {deep}")

        @lab.tool("crm.accounts.read", tenant="Acme")
        async def accounts_async(name: str = "Acme") -> str:
            await checkpoint()
            return self._noted(f"accounts {name}")

        @lab.tool("crm.accounts.delete", tenant="Acme")
        def delete(name: str) -> str:
            return self._noted(f"delete {name}")

        @lab.tool("crm.accounts.delete", tenant="Acme")
        async def delete_async(name: str) -> str:
            await checkpoint()
            return self._noted(f"delete {name}")

        @lab.tool("billing.refund", tenant="Acme")
        def refund(amount: float) -> str:
            return self._noted(f"refund {amount}")

        @lab.tool("billing.refund", tenant="Acme")
        async def refund_async(amount: float) -> str:
            await checkpoint()
            return self._noted(f"refund {amount}")

        @lab.tool("crm.export", tenant="Acme")
        def export() -> str:
            return self._noted("export")

        @lab.tool("crm.notes.write", tenant="Acme")
        def compose(text: str) -> str:
            return self._noted(f"compose {text}") + export()

        @lab.tool("sms.send", tenant="Acme")
        def sms(to: str) -> str:
            return self._noted(f"sms {to}")

        self.tickets, self.accounts, self.accounts_async = tickets, accounts, accounts_async
        self.delete, self.delete_async = delete, delete_async
        self.refund, self.refund_async = refund, refund_async
        self.export, self.compose, self.sms = export, compose, sms

    def _noted(self, what: str) -> str:
        self.ran.append(what)
        return what


async def crm(scope: Scope, receive: Receive, send: Send) -> None:
    """`/ACTION` is that action, with the tenant that was granted; `own` of the query is an argument."""
    del receive
    current = passage(scope)
    assert current.admitted is not None
    current.judge(scope["path"][1:], {}, tenant=current.admitted.tenant, sent=True)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


async def billing(scope: Scope, receive: Receive, send: Send) -> None:
    """`/billing.refund?AMOUNT` refunds so much."""
    del receive
    current = passage(scope)
    assert current.admitted is not None
    args: dict[str, JSON] = {"amount": int(scope["query_string"])}
    current.judge("billing.refund", args, tenant=current.admitted.tenant, sent=True)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"done"})


class Liar:
    """A service that answers each presentation with one refusal, whatever it says."""

    def __init__(self) -> None:
        self.body = b""
        self.seen = 0

    def says(self, **problem: Any) -> None:
        self.body = msgspec.json.encode(
            {"code": "action_not_allowed", "reasons": [{"code": "action_not_allowed"}], **problem}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        self.seen += 1
        headers = [(b"www-authenticate", b"Capx"), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})
