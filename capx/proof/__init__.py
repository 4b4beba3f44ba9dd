"""The execution proof: what task, whose intent, what was permitted and used, and when authority ended, for anybody.

    import capx
    from capx import proof

    with capx.Authority.temporary() as authority:
        task = authority.open(allow=["crm.read"])
        authority.complete(task.id)
        made = proof.export(authority, task.id)
        origin, key = f"capx/{authority.epoch()}", authority.checkpoints.public_keys()[0]
    # Elsewhere, with public keys alone:
    trust = proof.Trust(authorities=frozenset({origin}), logs=(key,))
    report = proof.verify(made, trust)
    assert report.result == "consistent"

Modules:

    document      the file, and what is signed in it
    trust         whom a reader trusts
    extent        which events of a log a proof has
    extract       the events of one log about a task, with their paths
    exporting     makes a proof or a receipt, and adds the parts of others
    verifying     works out what a proof shows
    sources       checks notes, cosignatures, signatures and paths
    recorded      the decisions in all logs
    chains        what the public bytes of tokens and approvals say, and which signatures are good
    decisions     what each decision says, and what of it does not fit
    approvals     what people agreed to of calls
    people        what people signed: the intent, and answers to requests
    asks          who asked for what was granted at run time
    calls         calls that could not have been allowed by their chains, arguments, budgets
    conflicts     what cannot be true together in mintings, times and logs
    ends          when authority ended, and what was allowed after it
    nodes         the execution graph
    allowed       what its chains allow, in words
    receipts      one event with its path, for whoever keeps it
    report        what a proof shows
    html_page     the same as one HTML page
"""

from capx.proof.document import Proof, ProofBroken
from capx.proof.exporting import export, merge, receipt
from capx.proof.extract import extract_ledger
from capx.proof.html_page import page
from capx.proof.receipts import Receipt
from capx.proof.report import Report
from capx.proof.trust import Trust
from capx.proof.verifying import verify

__all__ = [
    "Proof",
    "ProofBroken",
    "Receipt",
    "Report",
    "Trust",
    "export",
    "extract_ledger",
    "merge",
    "page",
    "receipt",
    "verify",
]
