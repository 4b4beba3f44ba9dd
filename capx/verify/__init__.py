"""From a token to a decision: the verifier that a resource embeds, and what it answers.

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
    evaluator        revocations and caveats: all that refuse
    admitted         a token that was admitted, to be judged against the call
    spending, meter  what a call takes from budgets, and where they are counted
    decision         what is answered and recorded
    ask, suggestion  what an agent can ask for, and what a denial suggests
    protocols        what a verifier needs: revocations, replay, recorder
    cache            what was read of a token before
    problem_details  an error as RFC 9457 has it
"""

from capx.verify.admitted import Admitted
from capx.verify.ask import Ask, Granted, Pending, Refused
from capx.verify.decision import Allowed, Decision, Denied
from capx.verify.verifier import Verifier

__all__ = ["Admitted", "Allowed", "Ask", "Decision", "Denied", "Granted", "Pending", "Refused", "Verifier"]
