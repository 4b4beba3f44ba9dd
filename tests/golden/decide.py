"""Two decisions of a resource that shares the home's store: one allowed, one denied."""

import pathlib

import capx

with capx.Authority.open_home(pathlib.Path("home")) as authority:
    verifier = authority.verifier("billing")
    for amount in (20, 70):
        for capability in capx.Bundle.parse(pathlib.Path("wider.token").read_text().strip()):
            if capability.audience == "billing":
                call = capx.ToolCall("billing.refund", {"amount": amount})
                presented = capability.present(call)
                said = verifier.decide(
                    presented.text, call, capx.Call("billing.refund", {"amount": amount}, tenant="Acme")
                )
                print(said.allowed, [refusal.code for refusal in said.refusals])
    assert authority.flush()
