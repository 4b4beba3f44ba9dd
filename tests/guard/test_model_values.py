"""What caveats see of a pydantic model: the names that callers use, and null apart from what was left out."""

import dataclasses
from enum import Enum
from pathlib import PurePosixPath
from typing import Any

import msgspec
import pytest
from pydantic import AliasChoices, AliasPath, BaseModel, ConfigDict, Field, RootModel, field_validator
from pydantic.alias_generators import to_camel

from capx.errors import InvalidRequest
from capx.guard.json_values import plain
from capx.guard.model_values import converted, first_alias


class Address(BaseModel):
    street: str
    zip: str | None = None


class Patch(BaseModel):
    amount: float = 1
    note: str | None = None
    to: Address | None = None
    tags: list[str] | None = None
    lines: list[Address] = []


def seen(value: Any) -> Any:
    return plain("x", value, converted)


def test_null_and_left_out_differ() -> None:
    assert seen(Patch.model_validate({})) == {"amount": 1, "lines": []}
    assert seen(Patch.model_validate({"note": None, "to": None})) == {
        "amount": 1,
        "lines": [],
        "note": None,
        "to": None,
    }


def test_null_and_left_out_differ_in_a_nested_model() -> None:
    sent: list[dict[str, Any]] = [{"street": "a"}, {"street": "a", "zip": None}]
    for address in sent:
        assert seen(Patch.model_validate({"to": address, "lines": [address]})) == {
            "amount": 1,
            "to": address,
            "lines": [address],
        }


def test_what_the_endpoint_can_tell_apart_looks_different() -> None:
    """Two bodies that PATCH semantics tell apart are judged differently, as far as null is concerned."""
    parts: list[dict[str, Any]] = [{}, {"note": None}, {"to": None}, {"to": {"street": "a"}}, {"tags": None}]
    bodies = [Patch.model_validate(one | other) for one in parts for other in parts]
    told_apart = {body.model_dump_json(exclude_unset=True) for body in bodies}
    assert len({str(sorted(seen(body).items())) for body in bodies}) == len(told_apart)


class Nulling(BaseModel):
    note: str | None = None

    @field_validator("note", mode="before")
    @classmethod
    def empty_is_null(cls, sent: Any) -> Any:
        return sent or None


def test_a_null_that_a_validator_made_was_not_left_out() -> None:
    assert seen(Nulling.model_validate({"note": ""})) == {"note": None}


class Told(BaseModel):
    note: str = "none"

    def model_post_init(self, context: Any, /) -> None:
        vars(self)["note"] = self.note.upper()


def test_a_default_is_judged_as_the_endpoint_gets_it() -> None:
    assert seen(Told.model_validate({})) == {"note": "NONE"}


class Whole(RootModel[str | None]):
    root: str | None = None


def test_the_value_of_a_root_model_is_never_missing() -> None:
    assert seen([Whole(), Whole(None)]) == [None, None]


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True)

    to_whom: str
    amount: int = Field(1, alias="amt")
    first: int = Field(1, validation_alias=AliasChoices("one", "first"))
    part: int = Field(1, validation_alias=AliasPath("parts", 0))


def test_fields_have_the_names_that_callers_use() -> None:
    expected = {"toWhom": "ann", "amt": 1, "one": 1, "part": 1}
    assert seen(Camel.model_validate({"toWhom": "ann"})) == expected
    assert seen(Camel.model_validate({"to_whom": "ann", "amount": 1, "first": 1})) == expected


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_alias=False, validate_by_name=True, extra="allow")

    amount: int = Field(alias="amt")


def test_an_alias_that_callers_cannot_use_is_no_name() -> None:
    assert seen(ByName.model_validate({"amount": 1, "amt": 2})) == {"amount": 1, "amt": 2}


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")

    amount: int = Field(alias="amt")


class Twice(BaseModel):
    a: int = Field(alias="x")
    b: int = Field(alias="x")


class Hooked(BaseModel):
    a: int = Field(alias="sent")

    def model_post_init(self, context: Any, /) -> None:
        object.__setattr__(self, "sent", "more")


@pytest.mark.parametrize(
    ("model", "sent"), [(Loose, {"amt": 7, "amount": 1}), (Twice, {"x": 1}), (Hooked, {"sent": 1})]
)
def test_two_members_of_one_name_are_no_argument(model: type[BaseModel], sent: Any) -> None:
    with pytest.raises(InvalidRequest, match="could not see both"):
        seen(model.model_validate(sent))


class Folder(Enum):
    HOME = PurePosixPath("/home")


@dataclasses.dataclass
class Kept:
    at: PurePosixPath


class Struct(msgspec.Struct):
    at: PurePosixPath


class Row(msgspec.Struct, array_like=True):
    at: PurePosixPath


@pytest.mark.parametrize(
    ("value", "judged"),
    [
        (Folder.HOME, "/home"),
        (Kept(PurePosixPath("/a")), {"at": "/a"}),
        (Struct(PurePosixPath("/a")), {"at": "/a"}),
        (Row(PurePosixPath("/a")), ["/a"]),
        ([{"at": {PurePosixPath("/a")}}], [{"at": ["/a"]}]),
    ],
)
def test_a_path_in_any_value_is_judged_as_its_text(value: Any, judged: Any) -> None:
    assert seen(value) == judged


@pytest.mark.parametrize(
    ("alias", "name"),
    [
        ("amt", "amt"),
        (AliasChoices("one", "first"), "one"),
        (AliasChoices("one"), "one"),
        (AliasPath("parts", 0), None),
        (AliasChoices(AliasPath("parts", 0), "first"), None),
        (None, None),
    ],
)
def test_the_first_alias_is_the_name(alias: str | AliasPath | AliasChoices | None, name: str | None) -> None:
    assert first_alias(alias) == name


class Single(BaseModel):
    root: int


def test_only_a_root_model_is_its_root() -> None:
    assert seen(Single(root=1)) == {"root": 1}
    whole = Whole("a")
    vars(whole)["more"] = 1
    assert seen(whole) == {"root": "a", "more": 1}


class Private(BaseModel):
    _key: str = "secret"


def test_what_is_not_converted_is_told_by_its_type() -> None:
    with pytest.raises(InvalidRequest, match="a object is not converted to JSON"):
        seen(object())
    with pytest.raises(InvalidRequest, match="a Private holds private attributes"):
        seen(Private())
    with pytest.raises(InvalidRequest, match="two members of a Twice have one name"):
        seen(Twice.model_validate({"x": 1}))
