"""Requests as older versions of capx kept them, without a count at each node, and others that capx never wrote."""

from msgspec import structs

from capx.crypto.base64url import b64u
from capx.store.protocols import Reading
from capx.store.records import RequestRecord

ROOT, NODE, CHILD = (b64u(letter * 16) for letter in (b"r", b"n", b"c"))
REQUEST = RequestRecord(
    id="request-1",
    task="task-1",
    audience="crm",
    action="crm.read",
    args='{"path":["x","y"],"audience":"mail","note":"\\u0000 \\"path\\":[\\"z\\"]"}',
    ids=(b64u(b"i" * 16),),
    kid="k1",
    issued=1,
    path=(ROOT, NODE),
    labels=("clerk",),
    block='[["task","task-1"]]',
    asked=1,
    until=9,
)
BELOW = structs.replace(REQUEST, id="request-2", audience="mail", path=(ROOT, NODE, CHILD), state="granted")
ROWS = (
    *((one.id, one.text()) for one in (REQUEST, BELOW)),
    *(
        (f"strange-{nth}", body)
        for nth, body in enumerate(["", "{", "[]", '{"path":7}', '{"path":[[1]],"audience":2}'])
    ),
)
"""The id and the body of each row."""


def counted(reading: Reading) -> list[tuple[int, int]]:
    """How many of these requests count at each node, and how many of them at the audience of the first."""
    return [(one.of_all, one.of_audience) for one in reading.request_counts([ROOT, NODE, CHILD, "x", "z"], "crm")]


COUNTED = [(2, 1), (2, 1), (1, 0), (0, 0), (0, 0)]
"""What `counted` gives when both requests count."""
