"""The connection of a person to an authority over the network: it signs each request with the person's key.

Laws:

- Nothing is signed for an authority that the person does not know at this place (capx.authority.people.known).
- Each try is signed anew, so the same request never goes out twice. It is tried once more only if the authority has
  another epoch since, because then nothing was done.
- An answer and an event have a longest length, and a stream that ends unasked is not opened again at once.
"""

import time
from collections.abc import Iterator, Mapping
from typing import Any, Concatenate, Final, ParamSpec, TypeVar
from urllib.parse import urlencode

import httpx
from msgspec import Struct, to_builtins

from capx.api.deadline import SINGLE, WholeResponse, whole_response
from capx.api.messages.base import encode
from capx.api.operation import JSON_TYPE, Operation
from capx.api.person_auth import UnprovenPerson, origin_of, prove
from capx.api.problems import HttpRefusal
from capx.api.responses import NoAnswer, read_response, unreachable
from capx.api.sse import EventReader
from capx.api.tls import reads_certificates
from capx.authority.authority import Authority
from capx.authority.people import operations
from capx.authority.people.known import KnownAuthorities
from capx.authority.people.messages import AuthorityNow
from capx.authority.people.person import Person
from capx.errors import StoreProblem, Unavailable
from capx.intents.epoch import authority_of
from capx.intents.principal_key import PrincipalKey

P = ParamSpec("P")
R = TypeVar("R")

_MOST: Final = 1 << 26
_SILENCE: Final = 45.0
"""Seconds without a byte after which a stream counts as broken; the authority writes something every 15."""
_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_NO_ANSWER: Final = (httpx.HTTPError, httpx.StreamError, OSError)


class PersonConnection:
    """The authority at `origin`, which must be one of `known` or become known by `trust`, asked with `key`."""

    def __init__(
        self, origin: str, key: PrincipalKey, known: KnownAuthorities, trust: str | None, **client: Any
    ) -> None:
        self.origin = origin_of(origin)
        self.key = key
        self._known = known
        self._trust = trust
        self._epoch: str | None = None
        client.setdefault("limits", SINGLE)
        with reads_certificates():
            self._client = httpx.Client(base_url=self.origin, follow_redirects=False, **client)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def authority(self) -> AuthorityNow:
        """Ask for the epoch and the time; UnknownAuthority or OtherAuthority if the person does not know it here."""
        asked = operations.authority_now
        try:
            answer = self._sent(asked, asked.path, b"", {})
        except NoAnswer:
            raise Unavailable(f"the authority at {self.origin} did not say its epoch: nothing was signed") from None
        found = read_response(answer, AuthorityNow, self.origin)
        self._known.demand(self.origin, authority_of(found.epoch), trust=self._trust)
        self._epoch = found.epoch
        return found

    def authority_id(self) -> str:
        """The id of the authority, which the person knows here; asked for only if nothing was asked before."""
        return authority_of(self._epoch or self.authority().epoch)

    def call(self, operation: Operation[Concatenate[Authority, Person, P], R], *asked: P.args, **named: P.kwargs) -> R:
        """Sign a request with the arguments that its function takes after the person, and read its answer."""
        form: Any = asked[0] if asked else None
        body = encode(form) if operation.has_body and form is not None else b""
        query = "" if operation.has_body or form is None else urlencode(_members(form))
        target = operation.path.replace("{id}", str(named.get("id", ""))) + (f"?{query}" if query else "")
        try:
            return self._answered(operation, target, body)
        except UnprovenPerson:
            # The store may have been restored since, and then its epoch is another one. Nothing was done.
            if not self._has_other_epoch():
                raise
        return self._answered(operation, target, body)

    def events(self, operation: Operation[..., Any], kind: str) -> Iterator[bytes]:
        """Yield the data of each event of this kind, until UnprovenPerson, or another authority answers.

        It connects anew when the connection breaks, or the authority asks for a new signature.
        """
        pause = _PAUSE
        while True:
            try:
                for data in self._stream(operation, kind):
                    pause = _PAUSE
                    yield data
                # An authority that ends each stream at once gets no signature after signature.
                time.sleep(_PAUSE)
            except (*_NO_ANSWER, StoreProblem):
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _stream(self, operation: Operation[..., Any], kind: str) -> Iterator[bytes]:
        headers = {
            **self._proven(operation, operation.path, b""),
            "accept": "text/event-stream",
            "accept-encoding": "identity",
        }
        timeout = httpx.Timeout(_SILENCE, connect=operation.seconds)
        with self._client.stream(operation.method, operation.path, headers=headers, timeout=timeout) as answer:
            if answer.status_code != 200:
                try:
                    self._read(WholeResponse(answer.status_code, self._body(answer)), object)
                except UnprovenPerson:
                    if not self._has_other_epoch():
                        raise
                return
            events = EventReader(_MOST, self._too_long)
            for piece in answer.iter_raw():
                for found, data in events.take(piece):
                    if found == kind:
                        yield data
                    elif found == "end" and data == b'"unproven"':
                        raise UnprovenPerson(
                            f"the authority at {self.origin} does not know this key of {self.key.name} any more"
                        )
                    elif found == "end":
                        return
        raise StoreProblem(f"the authority at {self.origin} ended its stream")

    @property
    def _too_long(self) -> str:
        return f"the authority at {self.origin} sent more than this request can hold"

    def _body(self, answer: httpx.Response) -> bytes:
        body = bytearray()
        for piece in answer.iter_raw():
            body += piece
            if len(body) > _MOST:
                raise StoreProblem(self._too_long)
        return bytes(body)

    def _answered(self, operation: Operation[..., R], target: str, body: bytes) -> R:
        answer = self._sent(operation, target, body, self._proven(operation, target, body))
        kind: type[R] = operation.answers
        return self._read(answer, kind, status=operation.status)

    def _read(self, answer: WholeResponse, kind: type[R], *, status: int = 200) -> R:
        try:
            return read_response(answer, kind, self.origin, status=status)
        except HttpRefusal as refused:
            raise UnprovenPerson(str(refused)) if refused.code == "unproven_person" else refused from None

    def _has_other_epoch(self) -> bool:
        """Ask whether the authority has another epoch than the last request was signed for."""
        signed_for = self._epoch
        return self.authority().epoch != signed_for

    def _proven(self, operation: Operation[..., Any], target: str, body: bytes) -> dict[str, str]:
        epoch = self._epoch or self.authority().epoch
        proof = prove(
            self.key,
            origin=self.origin,
            epoch=epoch,
            method=operation.method,
            target=target,
            body=body,
            at=int(time.time()),
        )
        return {"authorization": proof}

    def _sent(
        self, operation: Operation[..., Any], target: str, body: bytes, headers: Mapping[str, str]
    ) -> WholeResponse:
        try:
            return whole_response(
                self._client,
                operation.method,
                target,
                seconds=operation.seconds,
                most=_MOST,
                content=body if operation.has_body else None,
                headers={**headers, "content-type": JSON_TYPE} if operation.has_body else headers,
                timeout=httpx.Timeout(operation.seconds),
            )
        except _NO_ANSWER as error:
            raise unreachable(self.origin, error) from None


def _members(asked: Struct) -> dict[str, str]:
    members: dict[str, Any] = to_builtins(asked)
    return {name: str(value) for name, value in members.items()}
