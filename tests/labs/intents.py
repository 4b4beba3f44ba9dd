"""One intent, as the document that its principal signs; nobody signed this one."""

from typing import Any

DOCUMENT: dict[str, Any] = {
    "principal": "ana@our.example",
    "authority": "OYZ7VqUQJ9PBa0YXjDBPsw.1795500000",
    "purpose": "refund",
    "statement": "Refund ticket T-1,\nbut no more than it cost. — Ana",
    "tenant": "Acme",
    "parameters": {"ticket": "T-1", "amount": 20.5, "urgent": True, "lines": [1, "b", None], "note": None},
    "agent": "refunds",
    "agent_key": "ed25519:A6EHv_POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg",
    "max_tasks": 2,
    "issued": 1_795_600_000,
    "not_after": 1_795_628_800,
    "nonce": "q83vEjRWeJCrze8SNFZ4kA",
}
