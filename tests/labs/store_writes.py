"""Tests write these rows into a store, and read them again."""

from capx.store.log import Place, check
from capx.store.protocols import Reading, Store
from capx.store.records import DecisionRecord, Head
from capx.tokens.revocation_key import RevocationKey

NOW = 1_800_000_000


def note(store: Store, body: bytes = b"{}") -> int:
    with store.write() as transaction:
        return transaction.append("noted", body, at=NOW).position


def position(store: Store) -> int:
    with store.read() as reading:
        return check(reading.events(), head=reading.head().place).position


def verified(store: Store) -> Place:
    with store.read() as reading:
        return check(reading.events(), head=reading.head().place)


def head_of(store: Store) -> Head:
    with store.read() as reading:
        return reading.head()


def kill(store: Store, *keys: RevocationKey, at: int = NOW) -> None:
    with store.write() as transaction:
        event = transaction.append("revoked", b"{}", at=at)
        for key in keys:
            transaction.kill(key, "revoked", at=at, position=event.position)


def decision(id_: str, more: bytes = b"") -> DecisionRecord:
    return DecisionRecord(id_, NOW, b'{"id":"%s","audience":"crm"%s}' % (id_.encode(), more))


def granted_by(reading: Reading, key: RevocationKey) -> list[bytes]:
    return reading.granted_by([key]).get(key, [])
