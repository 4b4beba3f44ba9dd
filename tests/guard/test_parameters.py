"""What pydantic puts into a parameter of a guarded function of an MCP server, and no caveat would see."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import fastmcp
import pytest
from mcp import Client
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasPath,
    BaseModel,
    BeforeValidator,
    Field,
    IPvAnyAddress,
    NaiveDatetime,
    SecretStr,
    ValidationInfo,
)
from typing_extensions import TypedDict

from capx.api.mcp_messages import PROBLEM
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.mcp.parameters import faults, fields_of
from capx.guard.mcp.server import GRANTED, MCPGuard
from capx_caveats import action, anything
from tests.labs.mcp_calls import call, held
from tests.labs.mcp_servers import as_sdk, send_presented, some_server

SDKS = ("mcp", "fastmcp")
OPTIONS: Any = Field(None, validation_alias=AliasChoices("bcc", "x"))


def choices(text: str, bcc: Annotated[str, Field(validation_alias=AliasChoices("bcc", "hidden"))] = "") -> str:
    return f"{text} {bcc}"


def part(
    text: Any, bcc: Annotated[str, Field(validation_alias=AliasChoices("bcc", AliasPath("text", "b")))] = ""
) -> str:
    return f"{text} {bcc}"


def options(text: str, bcc: Any = OPTIONS) -> str:
    return f"{text} {bcc}"


def swapped(text: Annotated[str, Field(alias="bcc")] = "", bcc: Annotated[str, Field(alias="text")] = "") -> str:
    return f"{text} {bcc}"


def computed(text: str, bcc: Annotated[str, Field(default_factory=lambda data: data["text"])]) -> str:
    return f"{text} {bcc}"


def copied(value: str, info: ValidationInfo) -> str:
    return value or info.data["text"]


def validated(text: str, bcc: Annotated[str, Field(validate_default=True), AfterValidator(copied)] = "") -> str:
    return f"{text} {bcc}"


def made(text: str, bcc: Annotated[str, Field(default_factory=lambda: "made")]) -> str:
    return f"{text} {bcc}"


def in_signature(text: str, bcc: str = "me") -> str:
    return f"{text} {bcc}"


def in_field(text: str, bcc: str = Field("me", description="Who gets a copy.")) -> str:
    return f"{text} {bcc}"


def in_annotation(text: str, bcc: Annotated[str, Field(default="me")]) -> str:
    return f"{text} {bcc}"


def with_own_alias(text: str, bcc: Annotated[str, Field(alias="bcc")] = "me") -> str:
    return f"{text} {bcc}"


def answered(lab: Authority, sdk: str, function: Callable[..., str], **sent: Any) -> dict[str, Any]:
    """What a call is answered that may have any text, and names no other argument."""
    server, guard = some_server(sdk), MCPGuard(lab.verifier("files"))
    server.tool("send")(guard.tool("files.send", tenant=GRANTED)(function))
    guard.protect(server)
    mine = held(lab, action("files.send", text=anything()))

    async def run() -> dict[str, Any]:
        at: Any = as_sdk(server)
        async with fastmcp.Client(at) if sdk == "fastmcp" else Client(at) as client:
            return await send_presented(client.session, mine, "tools/call", call("send", **sent))

    return asyncio.run(run())


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("function", [choices, part, options, swapped])
def test_a_parameter_with_a_second_name_does_not_start(lab: Authority, sdk: str, function: Callable[..., str]) -> None:
    with pytest.raises(
        ConfigurationProblem, match=r"the tool 'send' reads \w+ by another name, .*give the parameter no alias"
    ):
        answered(lab, sdk, function)


@pytest.mark.parametrize("function", [computed, validated, made])
def test_what_a_server_computes_is_no_default(lab: Authority, function: Callable[..., str]) -> None:
    told = answered(lab, "mcp", function, text="me")
    assert told["_meta"][PROBLEM]["code"] == "argument_not_named"
    assert told["_meta"][PROBLEM]["ask"]["args"]["bcc"] in ("me", "made")


def test_what_fastmcp_makes_anew_is_no_default(lab: Authority) -> None:
    assert answered(lab, "fastmcp", made, text="a")["_meta"][PROBLEM]["code"] == "argument_not_named"


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("function", [in_signature, in_field, in_annotation, with_own_alias])
def test_a_default_is_one_wherever_it_stands(lab: Authority, sdk: str, function: Callable[..., str]) -> None:
    assert answered(lab, sdk, function, text="a")["content"][0]["text"] == "a me"
    sent = answered(lab, sdk, function, text="a", bcc="me")
    assert sent["_meta"][PROBLEM]["code"] == "argument_not_named"


def test_annotations_that_cannot_be_read_are_refused(lab: Authority) -> None:
    def send(text: "Unknown") -> None: ...  # type: ignore[name-defined] # noqa: F821 # the very mistake

    with pytest.raises(ConfigurationProblem, match=r"the annotations of .*send cannot be read: name 'Unknown'"):
        MCPGuard(lab.verifier("files")).tool("files.send")(send)


def test_a_parameter_without_an_annotation_is_read() -> None:
    def send(text, bcc=1): ...  # type: ignore[no-untyped-def] # as in the wild

    fields = fields_of(send, {"text", "bcc", "unknown"})
    assert (fields["text"].is_required(), fields["bcc"].default, len(fields)) == (True, 1, 2)
    assert not list(faults(fields))


@dataclass
class Send:
    """A message that is sent."""

    to: str
    amount: int


@dataclass
class Draft:
    """A message that is not sent, and looks alike."""

    to: str
    amount: int = 0


@dataclass
class Outbox:
    """A message of one of the two classes, inside of another object."""

    message: Send | Draft


@dataclass
class Circle:
    kind: Literal["circle"]
    size: int


@dataclass
class Square:
    kind: Literal["square"]
    size: int


class Job(BaseModel):
    to: str


class Folder(TypedDict):
    path: str


def taken(annotation: Any) -> Callable[..., str]:
    """A function with one parameter of this type."""

    def take(value: Any) -> str:
        return repr(value)

    take.__annotations__["value"] = annotation
    return take


def protect(lab: Authority, sdk: str, annotation: Any) -> None:
    server, guard = some_server(sdk), MCPGuard(lab.verifier("files"))
    server.tool("take")(guard.tool("files.take", tenant=GRANTED)(taken(annotation)))
    guard.protect(server)


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize("annotation", [Send | Draft, list[Send | Draft], Outbox, dict[str, Outbox | None]])
def test_a_union_of_look_alikes_does_not_start(lab: Authority, sdk: str, annotation: Any) -> None:
    wanted = (
        "^the tool 'take' has the parameter value, which holds a union of Send and Draft, and caveats could not see "
        "which one it is: give it a discriminator, or give the parameter another type$"
    )
    with pytest.raises(ConfigurationProblem, match=wanted):
        protect(lab, sdk, annotation)


def test_a_validator_that_sees_what_is_ignored_does_not_start(lab: Authority) -> None:
    def see(value: Any) -> Any:
        return value

    wanted = r"has the parameter value, which holds a Folder, which ignores .*, or give the parameter another type$"
    with pytest.raises(ConfigurationProblem, match=wanted):
        protect(lab, "mcp", Annotated[Folder, BeforeValidator(see)])


@pytest.mark.parametrize("sdk", SDKS)
@pytest.mark.parametrize(
    ("annotation", "named"),
    [
        (Job, "Job"),
        (Job | None | Path, "Job"),
        (list[Job], "Job"),
        (dict[str, list[Path]], "Path"),
        (bytes, "bytes"),
        (Annotated[bytes, Field(max_length=3)], "bytes"),
        (IPvAnyAddress, "IPvAnyAddress"),
        (SecretStr, "SecretStr"),
        (NaiveDatetime, "NaiveDatetime"),
    ],
    ids=str,
)
def test_a_type_that_is_never_judged_does_not_start(lab: Authority, sdk: str, annotation: Any, named: str) -> None:
    wanted = (
        f"^the tool 'take' takes value as a {named}, which no caveat can see: take JSON, a dataclass or a TypedDict$"
    )
    with pytest.raises(ConfigurationProblem, match=wanted):
        protect(lab, sdk, annotation)


@pytest.mark.parametrize(
    "annotation",
    [
        Any,
        datetime,
        Folder,
        list[Draft],
        bytes | str | None,
        None,
        Annotated[Path, AfterValidator(str)],
        Annotated[Circle | Square, Field(discriminator="kind")],
        list[Annotated[Path, AfterValidator(str)]],
        list[dict[str, int]],
    ],
    ids=str,
)
def test_a_type_that_can_be_judged_starts(lab: Authority, annotation: Any) -> None:
    protect(lab, "mcp", annotation)
