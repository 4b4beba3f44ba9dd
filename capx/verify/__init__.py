"""From a token to a decision: the verifier that a resource embeds, and its answers.

    import capx
    from capx.verify import Denied

    authority = capx.Authority.temporary()
    bundle = authority.open(tenant="Acme", allow=["crm.read"]).bundle
    verifier = authority.verifier("crm")           # capx.resource.connect makes one in a process of its own

    sent = capx.ToolCall("crm.read", {"id": 7})
    admitted = verifier.admit(bundle.present("crm", sent).text, sent)
    try:
        admitted.judge(capx.Call("crm.read", {"id": 7}, tenant="Globex"))
    except Denied as denied:
        assert denied.code == "wrong_tenant"

Modules:

    verifier         the order of the checks; MAC, binding and burn
    explanation      a decision step by step, for people
    evaluator        revocations and caveats; collects all refusals
    ended_tokens     which denials of ended and unsigned tokens were recorded in this minute
    admitted         an admitted token; judges calls against it
    spending, meter  payment from budgets, and the counters behind them
    decision         the answers, and the record of a decision
    disclosure       what a denial tells the bearer
    approvals        the discharges that come with a token, and which demand each of them answers
    evidence         what a decision says so that others can check it later
    args_digest      the digest by which the log shows that two decisions were about the same call
    ask, suggestion  an agent's ask for more, and the ask that a denial suggests
    protocols        the parts that a verifier needs: revocations, replay memory, recorder
    cache            facts that were read from a token before
    problem_details  an error in the form of RFC 9457
"""

from capx.verify.admitted import Admitted
from capx.verify.ask import Approved, Ask, Granted, Pending, Refused
from capx.verify.decision import Allowed, Decision, Denied
from capx.verify.verifier import Verifier

__all__ = ["Admitted", "Allowed", "Approved", "Ask", "Decision", "Denied", "Granted", "Pending", "Refused", "Verifier"]
