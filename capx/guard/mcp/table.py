"""Which action a tool, a prompt or another method of an MCP server is, and how its calls are stated.

    from capx.guard.mcp.table import GRANTED, ToolSpec, ToolTable

    table = ToolTable("files", {"read_text_file": ToolSpec("files.read", tenant=GRANTED)})

Laws: a tool that the table does not name is refused, or is `AUDIENCE.TOOL` with `unnamed="default"`. A tool must be
named if its name cannot be part of an action, or if its action would look like that of a prompt or a resource. Two
tools may be one action, and no tool is two. A table file is read strictly: what the reader does not know, it refuses.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

from capx.errors import ConfigurationProblem, InvalidCaveat
from capx.guard.call_facts import GRANTED, CallSpec, GrantedTenant, StatedArguments
from capx.policy import toml_reader
from capx.policy.toml_reader import Field, InvalidFile, Wrong
from capx.tokens.grants import demand_audience
from capx_caveats import JSON, Amount, Call, is_action, is_label

Kind = Literal["tool", "prompt", "method"]
"""What a table names: a tool, a prompt, or a method that the guard does not know."""
OF_OTHERS: Final = ("prompt.", "resource.")
"""How the actions of prompts and resources begin, after the audience."""
Unnamed = Literal["deny", "default"]
"""What a call is that the table does not name: refused, or of the action `AUDIENCE.NAME`."""


class ToolSpec(Struct, frozen=True):
    """The action of a tool, and the facts of its calls.

    `args` names the tool's argument for each argument that caveats see; without it, caveats see all arguments by their
    own names, and otherwise only these. `texts` are arguments that the server takes as the texts that they are: of
    others, a text that parses as JSON is refused. `definition` is the digest of the tool's definition that was
    approved. With `judged_by_function`, the guarded function of the tool judges the call; the guard admits it.
    """

    action: str
    tenant: str | GrantedTenant | None = None
    attributes: Mapping[str, JSON] | None = None
    cost: Mapping[str, Amount] | None = None
    args: Mapping[str, str] | None = None
    texts: tuple[str, ...] = ()
    definition: str | None = None
    judged_by_function: bool = False

    def __post_init__(self) -> None:
        # Constants that are wrong would deny every call.
        CallSpec(self.action, self.tenant, self.attributes, self.cost).demand_derivable(())

    def stated(self, arguments: Mapping[str, JSON], defaults: Mapping[str, JSON]) -> StatedArguments:
        """Return the arguments and defaults of a tool as caveats see them."""
        if self.args is None:
            return StatedArguments(arguments, defaults)
        return StatedArguments(
            *({name: values[of] for name, of in self.args.items() if of in values} for values in (arguments, defaults))
        )


class ToolTable:
    """The specs of a server, which is one audience.

    `tenant` is that of what the table does not name, and of resources. Raises ConfigurationProblem for an audience that
    no token can have.
    """

    def __init__(
        self,
        audience: str,
        tools: Mapping[str, ToolSpec] | None = None,
        *,
        prompts: Mapping[str, ToolSpec] | None = None,
        methods: Mapping[str, ToolSpec] | None = None,
        tenant: str | GrantedTenant | None = None,
        unnamed: Unnamed = "deny",
    ) -> None:
        try:
            demand_audience(audience)
        except (InvalidCaveat, ValueError) as error:
            raise ConfigurationProblem(str(error)) from None
        self.audience = audience
        self.tenant = tenant
        self._unnamed = unnamed
        self._named: dict[Kind, dict[str, ToolSpec]] = {
            "tool": dict(tools or {}),
            "prompt": dict(prompts or {}),
            "method": dict(methods or {}),
        }

    def copy(self) -> "ToolTable":
        """Return another table with the same specs."""
        tools, prompts, methods = (self._named[kind] for kind in ("tool", "prompt", "method"))
        given: dict[str, Any] = {"tenant": self.tenant, "unnamed": self._unnamed}
        return ToolTable(self.audience, tools, prompts=prompts, methods=methods, **given)

    def name(self, tool: str, spec: ToolSpec) -> None:
        """Add a tool; ConfigurationProblem if it is named already."""
        if tool in self._named["tool"]:
            raise ConfigurationProblem(f"the tool {tool!r:.80} is named twice: give one of them another name")
        self._named["tool"][tool] = spec

    def tools(self) -> Mapping[str, ToolSpec]:
        """The tools that it names."""
        return self._named["tool"]

    def spec(self, kind: Kind, name: str) -> ToolSpec | None:
        """Return the spec of a tool, prompt or method; None if it is refused."""
        if (found := self._named[kind].get(name)) is not None or kind == "method" or self._unnamed == "deny":
            return found
        # Otherwise a tool called prompt.X would be the action of the prompt X.
        if kind == "tool" and name.startswith(OF_OTHERS):
            return None
        middle = "prompt." if kind == "prompt" else ""
        action = f"{self.audience}.{middle}{name}"
        return ToolSpec(action, tenant=self.tenant) if is_action(action) else None

    def resource_spec(self) -> ToolSpec:
        """Return the spec of reading a resource, whose argument is its `uri`."""
        return ToolSpec(f"{self.audience}.resource.read", tenant=self.tenant)

    @classmethod
    def load(cls, path: Path | str) -> "ToolTable":
        """Read a table file; InvalidFile with all its mistakes, ConfigurationProblem if it cannot be read."""
        place = Path(path)
        try:
            data = place.read_bytes()
        except OSError as error:
            raise ConfigurationProblem(f"cannot read the table file {place}: {error.strerror}") from None
        return cls.read(data, str(place))

    @classmethod
    def read(cls, data: bytes | str, name: str = "the table") -> "ToolTable":
        """Read the text of a table file; InvalidFile with all its mistakes."""
        try:
            found = toml_reader.members(toml_reader.load(data), "", _FIELDS)
            tenant = found.get("tenant")
            specs = {kind: _specs(found.get(kind, {}), tenant) for kind in ("tool", "prompt", "method")}
            return toml_reader.explained(
                "",
                lambda: cls(
                    found["audience"],
                    specs["tool"],
                    prompts=specs["prompt"],
                    methods=specs["method"],
                    tenant=tenant,
                    unnamed=found.get("unnamed", "deny"),
                ),
            )
        except Wrong as error:
            raise InvalidFile(name, error.lines) from None


def _tenant(value: object, path: str) -> GrantedTenant | None:
    found = toml_reader.text(value, path)
    if found not in _TENANTS:
        raise toml_reader.wrong(path, f"is neither {' nor '.join(map(repr, _TENANTS))}")
    return _TENANTS[found]


def _unnamed(value: object, path: str) -> Unnamed:
    found = toml_reader.text(value, path)
    for known in ("deny", "default"):
        if found == known:
            return known
    raise toml_reader.wrong(path, "is neither 'deny' nor 'default'")


def _renamed(value: object, path: str) -> Mapping[str, str]:
    pairs = toml_reader.table(value, path)
    read = toml_reader.every(
        lambda name, of: (_label(name, toml_reader.key(path, name)), _label(of, toml_reader.key(path, name))),
        pairs.items(),
    )
    return dict(read)


def _label(value: object, path: str) -> str:
    if not is_label(found := toml_reader.text(value, path)):
        raise toml_reader.wrong(path, "is not the name of an argument: write 1 to 128 characters")
    return found


def _constants(what: str, value: object, path: str) -> Mapping[str, Any]:
    found: dict[str, Any] = dict(toml_reader.table(value, path))
    given: dict[str, Any] = {what: found}
    toml_reader.explained(path, lambda: Call("a.b", **given))
    return found


_TENANTS: Final[Mapping[str, GrantedTenant | None]] = {"granted": GRANTED, "none": None}
_SPEC: Final = {
    "action": Field(toml_reader.name(is_action, "an action: labels joined by dots")),
    "tenant": Field(_tenant),
    "args": Field(_renamed),
    "texts": Field(toml_reader.name_list(is_label, "the name of an argument", "names of arguments")),
    "attributes": Field(partial(_constants, "attributes")),
    "cost": Field(partial(_constants, "cost")),
    "definition": Field(toml_reader.text),
}
_ACTION_NEEDED: Final = {**_SPEC, "action": Field(_SPEC["action"].read, needed=True)}


def _spec_tables(value: object, path: str) -> Mapping[str, dict[str, Any]]:
    found = toml_reader.table(value, path)
    read = toml_reader.every(
        lambda name, one: (name, toml_reader.members(one, toml_reader.key(path, name), _ACTION_NEEDED)), found.items()
    )
    return dict(read)


def _specs(found: Mapping[str, dict[str, Any]], tenant: GrantedTenant | None) -> dict[str, ToolSpec]:
    default: dict[str, Any] = {"tenant": tenant}
    return {name: ToolSpec(**(default | given)) for name, given in found.items()}


_FIELDS: Final = {
    "audience": Field(toml_reader.name(is_label, "an audience"), needed=True),
    "tenant": Field(_tenant),
    "unnamed": Field(_unnamed),
    "tool": Field(_spec_tables),
    "prompt": Field(_spec_tables),
    "method": Field(_spec_tables),
}
