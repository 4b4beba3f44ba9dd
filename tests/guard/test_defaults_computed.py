"""A closed entry is not opened by a member that nobody sent, and that a model computes from what was sent."""

import functools
from collections.abc import Callable, Iterator
from typing import Annotated, Any

import pytest
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from capx.authority.authority import Authority
from capx.guard.fastapi import FastAPIGuard
from capx.verify.decision import Allowed
from capx_caveats import absent, action, anything
from tests.labs.orders import client_of, refusal

EVIL = "evil@else.where"
CLOSED = action("crm.send", to="a", text=anything())
"""What the bearer may do: send any text to a, and to nobody else."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Authority]:
    with Authority.temporary() as lab:
        yield lab


class Mail(BaseModel):
    model_config = ConfigDict(extra="forbid")

    to: str
    text: str
    bcc: str | None = None


class ByFactory(Mail):
    bcc: str | None = Field(default_factory=lambda data: data["text"])


class ByValidator(Mail):
    bcc: str | None = Field(None, validate_default=True)


class BeforeField(ByValidator):
    @field_validator("bcc", mode="before")
    @classmethod
    def made(cls, sent: Any, info: ValidationInfo) -> Any:
        return info.data["text"]


class WrappedField(ByValidator):
    @field_validator("bcc", mode="wrap")
    @classmethod
    def made(cls, sent: Any, handler: Any, info: ValidationInfo) -> Any:
        return handler(info.data["text"])


class AfterField(ByValidator):
    @field_validator("bcc", mode="after")
    @classmethod
    def made(cls, sent: Any, info: ValidationInfo) -> Any:
        return info.data["text"]


class Before(Mail):
    @model_validator(mode="before")
    @classmethod
    def made(cls, sent: Any) -> Any:
        return sent | {"bcc": sent["text"]}


class BeforeBuilds(Mail):
    @model_validator(mode="before")
    @classmethod
    def made(cls, sent: Any) -> Any:
        return cls.model_construct(set(), **sent, bcc=sent["text"])


class Wrapped(Mail):
    @model_validator(mode="wrap")
    @classmethod
    def made(cls, sent: Any, handler: Callable[[Any], Any]) -> Any:
        model = handler(sent)
        vars(model)["bcc"] = sent["text"]
        return model


class WrappedCopy(Mail):
    @model_validator(mode="wrap")
    @classmethod
    def made(cls, sent: Any, handler: Callable[[Any], Any]) -> Any:
        copied = handler(sent).model_copy(update={"bcc": sent["text"]})
        copied.__pydantic_fields_set__.clear()
        return copied


class WrappedSubclass(Mail):
    @model_validator(mode="wrap")
    @classmethod
    def made(cls, sent: Any, handler: Callable[[Any], Any]) -> Any:
        return Blind.model_construct(set(), **sent)


class Blind(WrappedSubclass):
    bcc: str | None = EVIL


class After(Mail):
    @model_validator(mode="after")
    def made(self) -> Any:
        vars(self)["bcc"] = self.text
        return self


class AfterBuilds(Mail):
    @model_validator(mode="after")
    def made(self) -> Any:
        return type(self).model_construct(set(), to=self.to, text=self.text, bcc=self.text)


class PostInit(Mail):
    def model_post_init(self, context: Any, /) -> None:
        vars(self)["bcc"] = self.text


class Initiated(Mail):
    def __init__(self, **sent: Any) -> None:
        super().__init__(**sent)
        object.__setattr__(self, "__dict__", {**vars(self), "bcc": sent["text"]})


class Renamed(Mail):
    bcc: str | None = Field(None, alias="blind")

    def model_post_init(self, context: Any, /) -> None:
        vars(self)["bcc"] = self.text


class Growing(Mail):
    bcc: Any = []  # as people write: pydantic copies it

    def model_post_init(self, context: Any, /) -> None:
        self.bcc.append(self.text)


class Below(BaseModel):
    bcc: str = ""


class Filling(Mail):
    bcc: Below = Below()  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride]

    def model_post_init(self, context: Any, /) -> None:
        vars(self.bcc)["bcc"] = self.text


class Cached(Mail):
    @functools.cached_property
    def blind(self) -> str:
        return self.text

    def model_post_init(self, context: Any, /) -> None:
        assert self.blind


ATTACKS: list[Any] = [
    *(ByFactory, BeforeField, WrappedField, AfterField, Before, BeforeBuilds, Wrapped, WrappedCopy),
    *(WrappedSubclass, After, AfterBuilds, PostInit, Initiated, Renamed, Growing, Filling, Cached),
]
TABLE = {"to": "mail.to", "text": "mail.text", "bcc": "mail.bcc"}


def refused(lab: Authority, kind: Any, entry: Any, table: Any = None) -> str | None:
    """Send a mail to an endpoint that takes this model; why it was refused, or None."""
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    async def send(mail: Any) -> str:
        return "sent"

    send.__annotations__ = {"mail": kind}
    app.post("/send")(guard.action("crm.send", args=table)(send))
    with client_of(app, lab.open(allow=[entry]).bundle) as client:
        sent = {"to": "a", "text": EVIL}
        response = client.post("/send", json=sent, params=sent)
        return None if response.status_code == 200 else refusal(response)[1]


def test_a_model_that_computes_nothing_passes(lab: Authority) -> None:
    assert refused(lab, Mail, CLOSED) is None
    assert refused(lab, Mail, CLOSED, TABLE) is None


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_computed_member_is_not_left_out(lab: Authority, kind: Any) -> None:
    named = "argument_refused" if kind is WrappedSubclass else "argument_not_named"
    assert refused(lab, kind, CLOSED) == named


@pytest.mark.parametrize("kind", [kind for kind in ATTACKS if kind is not Cached])
def test_a_computed_member_is_not_left_out_of_a_table(lab: Authority, kind: Any) -> None:
    named = "argument_refused" if kind is WrappedSubclass else "argument_not_named"
    assert refused(lab, kind, CLOSED, TABLE) == named


def test_a_computed_parameter_of_a_query_is_not_left_out(lab: Authority) -> None:
    assert refused(lab, Annotated[PostInit, Query()], CLOSED) == "argument_not_named"


class Nulling(Mail):
    bcc: str | None = "archive"

    def model_post_init(self, context: Any, /) -> None:
        vars(self)["bcc"] = None


class MadeNull(Mail):
    bcc: str | None = Field(default_factory=lambda: None)


@pytest.mark.parametrize("kind", [Nulling, MadeNull])
@pytest.mark.parametrize("table", [None, TABLE])
def test_a_null_that_a_model_computes_is_not_missing(lab: Authority, kind: Any, table: Any) -> None:
    assert refused(lab, kind, CLOSED, table) == "argument_not_named"
    missing = action("crm.send", to="a", text=anything(), bcc=absent())
    assert refused(lab, kind, missing, table) == "argument_refused"
    assert refused(lab, kind, action("crm.send", to="a", text=anything(), bcc=None), table) is None


class Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)

    bcc: str = ""


class Sharing(Mail):
    """A default that can be hashed is not copied: what one request writes to it, the next one gets."""

    bcc: Frozen = Frozen()  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride]

    def model_post_init(self, context: Any, /) -> None:
        vars(self.bcc)["bcc"] = self.text


def test_a_default_that_requests_change_is_none_of_the_class(lab: Authority) -> None:
    assert [refused(lab, Sharing, CLOSED)] == ["argument_not_named"]
    vars(Sharing.model_fields["bcc"].default)["bcc"] = ""


class Job(BaseModel):
    model_config = ConfigDict(extra="forbid")

    to: str
    text: str
    mail: Below = Below()
    made: Below = Field(default_factory=Below)


class Computing(Job):
    def model_post_init(self, context: Any, /) -> None:
        vars(self)["mail"] = Below.model_construct(set(), bcc=self.text)


DEEP = {"to": "mail.to", "text": "mail.text", "bcc": "mail.mail.bcc"}


def test_a_path_below_a_computed_member_is_an_argument(lab: Authority) -> None:
    assert refused(lab, Job, CLOSED, DEEP) is None
    assert refused(lab, Computing, CLOSED, DEEP) == "argument_not_named"
    # All that is in what a factory made is computed, also if it looks like the default of a class.
    assert refused(lab, Job, CLOSED, {**DEEP, "bcc": "mail.made.bcc"}) == "argument_not_named"


class Emptied(Mail):
    def model_post_init(self, context: Any, /) -> None:
        del self.__dict__["bcc"]


def test_a_path_to_a_member_that_is_gone_is_refused(lab: Authority) -> None:
    assert refused(lab, Emptied, CLOSED, TABLE) == "argument_refused"


def test_a_denial_names_what_was_computed(lab: Authority) -> None:
    app, guard = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm"))
    guard.protect(app)

    @app.post("/send")
    @guard.action("crm.send")
    async def send(mail: PostInit, allowed: Allowed) -> Any:
        return [dict(allowed.call.args), dict(allowed.call.defaults)]

    with client_of(app, lab.open(allow=["crm.send"]).bundle) as client:
        stated = client.post("/send", json={"to": "a", "text": "b"}).json()
    assert stated == [{"to": "a", "text": "b", "bcc": "b"}, {}]
