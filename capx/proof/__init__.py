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
    export        makes a proof, and adds the parts of others
    verifying     works out what a proof shows
    sources       checks notes, cosignatures, signatures and paths
    chains        what the public bytes of a token say, and which signatures are good
    decisions     what each decision says, and what of it does not fit
    report        what a proof shows
"""

from capx.proof.document import Proof, ProofBroken
from capx.proof.export import export, merge
from capx.proof.extract import extract_ledger
from capx.proof.report import Report
from capx.proof.trust import Trust
from capx.proof.verifying import verify

__all__ = ["Proof", "ProofBroken", "Report", "Trust", "export", "extract_ledger", "merge", "verify"]
