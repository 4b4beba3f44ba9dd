"""Whatever a pydantic model does between body and endpoint, no value gets past the judgement.

Models are made up: members, aliases, factories, validators of all modes and code after them, which write what the
bearer sent to any member, in any way that pydantic or Python has. The endpoint then looks at what it got. Each value
was judged as an argument, or is the static default that is written in the class.
"""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, RootModel, create_model, field_validator, model_validator
from typing_extensions import TypedDict

from capx.agent import httpx_client
from capx.authority.authority import Authority
from capx.errors import ConfigurationProblem
from capx.guard.fastapi import FastAPIGuard
from capx.verify.decision import Allowed
from capx_caveats import Call
from tests.labs.counts import repeated

NAMES: Final = ("a", "b", "c", "d")
ALIASES: Final = ("x", "y", "z", "w", "a")
NONE: Final = object()
"""No default: the member is required, or a factory makes it."""


class Parcel(BaseModel, extra="forbid"):
    street: str = "s"
    floor: int | None = None
    made: str = Field(default_factory=lambda data: "in " + data["street"])

    def model_post_init(self, context: Any, /) -> None:
        if self.street == "evil":
            vars(self)["floor"] = 7


class Cat(BaseModel, extra="forbid"):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel, extra="forbid"):
    kind: Literal["dog"] = "dog"
    tricks: list[str] = []


@dataclasses.dataclass
class Row:
    at: str
    to: str = ""

    def __post_init__(self) -> None:
        self.to = self.to or self.at


class Pair(TypedDict, total=False):
    one: str
    two: int


class Labels(RootModel[list[str]]): ...


TEXT: Final = st.sampled_from(["", "evil", "t"])
KINDS: Final[dict[str, tuple[Any, st.SearchStrategy[Any], st.SearchStrategy[Any]]]] = {
    "text": (str, TEXT, TEXT),
    "text or null": (str | None, st.none() | TEXT, st.none() | TEXT),
    "number": (int, st.integers(0, 2), st.integers(0, 2)),
    "text or number": (str | int, TEXT | st.integers(0, 2), TEXT),
    "anything": (Any, TEXT | st.booleans() | st.lists(TEXT, max_size=2), st.just([]) | st.just(True)),
    "texts": (list[str], st.lists(TEXT, max_size=2), st.just([]) | st.just(["t"])),
    "model": (Parcel, st.fixed_dictionaries({}, optional={"street": TEXT}), st.builds(Parcel, street=TEXT)),
    "models": (list[Parcel], st.lists(st.just({}), max_size=2), st.just([])),
    "union": (
        Annotated[Cat | Dog, Field(discriminator="kind")],
        st.just({"kind": "dog", "tricks": ["evil"]}) | st.just({"kind": "cat"}),
        st.builds(Cat),
    ),
    "dataclass": (Row, st.fixed_dictionaries({"at": TEXT}), st.builds(Row, TEXT)),
    "table": (Pair, st.fixed_dictionaries({}, optional={"one": TEXT, "two": st.integers(0, 2)}), st.just({})),
    "root": (Labels, st.lists(TEXT, max_size=2), st.just(Labels([]))),
}
"""The types of members: what callers send, and static defaults."""
MADE: Final = st.sampled_from(
    [None, "evil", "t", "", 0, 1, True, [], ["evil"], {}, {"more": "evil"}, "a parcel", "sent"]
)
"""What code of a model computes; `sent` is all that the bearer sent."""


class Member(NamedTuple):
    """A member, and what computes it; `validator` writes `made` where the member is validated."""

    name: str
    alias: str | None
    kind: str
    default: Any
    factory: str | None
    validator: str | None
    made: Any


class Step(NamedTuple):
    """What code of the whole model does to one member."""

    how: str
    name: str
    made: Any


@st.composite
def members(draw: st.DrawFn) -> list[Member]:
    found: list[Member] = []
    for name in NAMES[: draw(st.integers(1, 4))]:
        kind = draw(st.sampled_from(sorted(KINDS)))
        by_default = draw(st.sampled_from(["required", "static", "static", "factory", "factory of data"]))
        found.append(
            Member(
                name,
                draw(st.none() | st.none() | st.sampled_from(ALIASES)),
                kind,
                draw(KINDS[kind][2]) if by_default == "static" else NONE,
                by_default if by_default.startswith("factory") else None,
                draw(st.none() | st.none() | st.none() | st.sampled_from(["before", "after", "wrap"])),
                draw(MADE),
            )
        )
    return found


HOW: Final = (
    *("before sets", "before drops", "before takes extra", "before constructs"),
    *("wrap sets", "wrap copies", "wrap constructs", "wrap makes a subclass"),
    *("after assigns", "after sets", "after constructs", "after extends"),
    *("post assigns", "post sets", "init sets"),
)
STEPS: Final = st.lists(st.builds(Step, st.sampled_from(HOW), st.sampled_from(NAMES), MADE), max_size=2)
MORE: Final = st.dictionaries(st.sampled_from(["evil", "more", "x", "y"]), TEXT | st.none(), max_size=2)


class Case(NamedTuple):
    """A model, a body, and whether a table names its members."""

    fields: list[Member]
    steps: list[Step]
    extra: str
    sent: dict[str, Any]
    tabled: bool


@st.composite
def cases(draw: st.DrawFn) -> Case:
    fields, steps = draw(members()), draw(STEPS)
    extra = draw(st.sampled_from(["ignore", "allow", "forbid"]))
    # What is required is sent, and what is forbidden is not: most requests should get as far as the endpoint.
    left_out = {one.name for one in fields if (one.default, one.factory) != (NONE, None) and draw(st.booleans())}
    sent = {one.alias or one.name: draw(KINDS[one.kind][1]) for one in fields if one.name not in left_out}
    if extra != "forbid" or any(step.how == "before takes extra" for step in steps):
        sent = draw(MORE) | sent
    return Case(fields, steps, extra, sent, draw(st.booleans()))


def computed(made: Any, sent: Any) -> Any:
    """What code of a model makes of what was sent."""
    return {"a parcel": Parcel(street="evil"), "sent": repr(sent)}.get(made, made) if isinstance(made, str) else made


def field_of(one: Member) -> tuple[Any, Any]:
    options: dict[str, Any] = {} if one.alias is None else {"alias": one.alias}
    if one.factory == "factory":
        options["default_factory"] = lambda: computed(one.made, "")
    elif one.factory is not None:
        options["default_factory"] = lambda data: computed(one.made, data)
    elif one.default is not NONE:
        options["default"] = one.default
    return KINDS[one.kind][0], Field(validate_default=one.validator is not None, **options)


def validator_of(one: Member) -> Any:
    def simple(cls: Any, sent: Any, info: Any) -> Any:
        return computed(one.made, info.data) if sent in ("evil", one.default) else sent

    def around(cls: Any, sent: Any, handler: Any, info: Any) -> Any:
        return simple(cls, handler(sent), info)

    made: Any = field_validator(one.name, mode=one.validator)  # type: ignore[call-overload] # any of the four
    return made(classmethod(around if one.validator == "wrap" else simple))


def before(step: Step) -> Any:
    how, name, made = step

    def run(cls: Any, sent: Any) -> Any:
        if not isinstance(sent, dict):
            return sent
        what = computed(made, sent)
        if how == "before constructs":
            return cls.model_construct(_fields_set=set(), **dict.fromkeys(cls.model_fields, what))
        rest = {key: value for key, value in sent.items() if key not in (name, "evil")}
        sets = how == "before sets" or (how == "before takes extra" and "evil" in sent)
        return rest | {name: what} if sets else rest

    validator: Any = model_validator(mode="before")
    return validator(classmethod(run))


def wrap(step: Step) -> Any:
    how, name, made = step

    def run(cls: Any, sent: Any, handler: Any) -> Any:
        model, what = handler(sent), computed(made, sent)
        if how == "wrap copies":
            model = model.model_copy(update={name: what})
            model.__pydantic_fields_set__.discard(name)
        elif how == "wrap constructs":
            model = cls.model_construct(_fields_set=set(), **(vars(model) | {name: what}))
        elif how == "wrap makes a subclass":
            sub: Any = type("Sub", (cls,), {})
            model = sub.model_construct(**(vars(model) | {name: what}))
        else:
            vars(model)[name] = what
        return model

    validator: Any = model_validator(mode="wrap")
    return validator(classmethod(run))


def after(step: Step) -> Any:
    how, name, made = step

    def run(self: Any) -> Any:
        what = computed(made, vars(self))
        if how == "after constructs":
            return type(self).model_construct(_fields_set=set(), **(vars(self) | {name: what}))
        if how == "after assigns" and name in type(self).model_fields:
            setattr(self, name, what)
        elif how == "after extends" and isinstance(vars(self).get(name), list):
            vars(self)[name].append("evil")
        elif how == "after sets":
            vars(self)[name] = what
        return self

    return model_validator(mode="after")(run)


MODES: Final = {"before": before, "wrap": wrap, "after": after}


def base_of(steps: list[Step]) -> type[BaseModel]:
    """The class with what cannot be a validator: `model_post_init` and `__init__`."""
    space: dict[str, Any] = {}
    for how, name, made in steps:
        if how.startswith("post"):

            def post(self: Any, context: Any, /, *, how: str = how, name: str = name, made: Any = made) -> None:
                if how == "post assigns" and name in type(self).model_fields:
                    setattr(self, name, computed(made, vars(self)))
                else:
                    object.__setattr__(self, "__dict__", vars(self) | {name: computed(made, vars(self))})

            space["model_post_init"] = post
        elif how.startswith("init"):

            def init(self: Any, /, *, name: str = name, made: Any = made, **sent: Any) -> None:
                BaseModel.__init__(self, **sent)
                vars(self)[name] = computed(made, sent)

            space["__init__"] = init
    return type("Base", (BaseModel,), {**space, "__module__": __name__})


def model_of(fields: list[Member], steps: list[Step], extra: str) -> type[BaseModel]:
    validators = {f"of_{one.name}": validator_of(one) for one in fields if one.validator}
    modes = [(MODES.get(step.how.split()[0]), step) for step in steps]
    validators |= {f"whole_{number}": made(step) for number, (made, step) in enumerate(modes) if made}
    base = type("Configured", (base_of(steps),), {"model_config": {"extra": extra}, "__module__": __name__})
    create: Callable[..., type[BaseModel]] = create_model
    return create("Made", __base__=base, __validators__=validators, **{one.name: field_of(one) for one in fields})


def covers(judged: Any, value: Any) -> bool:
    """Whether a judged value shows all of what the endpoint got."""
    if isinstance(value, RootModel):
        return covers(judged, value.root)
    if isinstance(value, BaseModel):
        there = {name: held for name, held in vars(value).items() if held is not None or name in judged}
        return isinstance(judged, dict) and covers(judged, there)
    if dataclasses.is_dataclass(value):
        return covers(judged, vars(value))
    if isinstance(value, dict):
        same = isinstance(judged, dict) and judged.keys() == value.keys()
        return same and all(covers(judged[name], held) for name, held in value.items())
    if isinstance(value, list):
        same = isinstance(judged, list) and len(judged) == len(value)
        return same and all(covers(one, held) for one, held in zip(judged, value, strict=True))
    return type(judged) is type(value) and judged == value


def unjudged(case: Case, model: Any, call: Call) -> dict[str, Any]:
    """What an endpoint got, and what neither an argument shows nor the class says."""
    by_name = {one.name: one for one in case.fields}
    got = {name: value for name, value in vars(model).items() if name in by_name or not case.tabled}
    got |= {} if case.tabled else (model.model_extra or {})
    past: dict[str, Any] = {}
    for name, value in got.items():
        one = by_name.get(name)
        spelt = (one.alias or name) if one and not case.tabled else name
        # The test's own word for it: equal in Python, of the same type, and written in the class. A model that has only
        # a root is that root.
        held, written = (each.root if isinstance(each, RootModel) else each for each in (value, one and one.default))
        is_static = one is not None and type(held) is type(written) and held == written
        if not (covers(call.args[spelt], value) if spelt in call.args else is_static):
            past[name] = value
    return past


async def asked(lab: Authority, kind: Any, body: Mapping[str, Any], table: Any) -> list[Any]:
    """Send a body to an endpoint that takes a model; return what it got: the model and the call, or nothing."""
    app, guard, got = FastAPI(openapi_url=None), FastAPIGuard(lab.verifier("crm")), list[Any]()
    guard.protect(app)

    async def endpoint(body: Any, allowed: Allowed) -> None:
        got.extend([body, allowed.call])

    endpoint.__annotations__ = {"body": kind, "allowed": Allowed, "return": None}
    app.post("/x")(guard.action("crm.x", args=table)(endpoint))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    bundle = lab.open(allow=["crm.x"]).bundle
    async with httpx_client.async_client({"http://crm": "crm"}, bundle, transport=transport) as client:
        response = await client.post("http://crm/x", json=body)
    assert response.status_code in ((200,) if got else (403, 422))
    return got


@pytest.fixture(scope="module")
def lab() -> Any:
    with Authority.temporary() as lab:
        yield lab


@pytest.mark.timeout(600)  # models are built anew for each example
@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=repeated(2000))
@given(cases())
def test_whatever_a_model_computes_was_judged(lab: Authority, case: Case) -> None:
    kind = model_of(case.fields, case.steps, case.extra)
    table = {one.name: f"body.{one.name}" for one in case.fields} if case.tabled else None
    modes = [one.validator or "" for one in case.fields] + [step.how for step in case.steps]
    sees = any(mode.startswith(("before", "wrap", "init")) for mode in modes)
    try:
        got = asyncio.run(asked(lab, kind, case.sent, table))
    except ConfigurationProblem as problem:
        if not (sees and "which ignores members" in str(problem)) and "both as" not in str(problem):
            raise
        return
    if got:
        assert unjudged(case, *got) == {}
