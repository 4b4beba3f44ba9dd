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
    assert report.contradictions == ()

Modules:

    document      the file, and what is signed in it
    trust         whom a reader trusts
    extract       the events of one log about a task, with their paths
    exporting     makes a proof, and adds the parts of others
    receipts      one event with its path, for whoever keeps it
    verifying     works out what a proof shows
    sources       checks notes, cosignatures, signatures and paths
    chains        what the public bytes of a token say, and which signatures are good
    decisions     what each decision says, and what of it does not fit
    conflicts     what cannot be true together in mintings, times and logs
    people        what people signed: the intent, and answers to requests
    ends          when authority ended, and what was allowed after it
    nodes         the execution graph
    report        what a proof shows
    html_page     the same as one HTML page
"""

from capx.proof.document import Proof, ProofBroken
from capx.proof.exporting import export, merge
from capx.proof.extract import extract_ledger
from capx.proof.html_page import page
from capx.proof.receipts import Receipt, receipt
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
