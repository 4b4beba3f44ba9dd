"""What a person gets who installs the wheel, rather than the checkout."""

import os
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterable
from email import message_from_bytes
from importlib import metadata
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import capx
import capx_caveats

PACKAGES = ("capx", "capx_caveats", "capx_cli")


def run(*command: str, cwd: Path) -> str:
    # Coverage would count the installed copies as files of their own.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=checkout)
    (built,) = folder.glob("*.whl")
    return built


def installed_into(folder: Path, wheel: Path) -> Path:
    """The folder, which holds the wheel now, and none of what it needs."""
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-index", "--no-compile")
    run(sys.executable, "-m", "pip", "install", *options, "--target", str(folder), str(wheel), cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed_into(tmp_path_factory.mktemp("installed"), wheel)


def python(installed: Path, program: str) -> str:
    """Run a program that sees the wheel and its dependencies, and no editable install (-S: no .pth)."""
    libraries = (sysconfig.get_path("purelib"), sysconfig.get_path("platlib"))
    path = f"import sys; sys.path[:0] = {[str(installed), *libraries]!r}\n"
    return run(sys.executable, "-I", "-S", "-W", "error", "-c", path + program, cwd=installed)


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_carries_the_types_of(package: str, wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        assert f"{package}/py.typed" in archive.namelist()


def test_the_wheel_holds_three_packages_a_command_and_no_more(installed: Path) -> None:
    names = {entry.name for entry in installed.iterdir() if entry.suffix != ".dist-info"}
    assert names == {*PACKAGES, "bin"}
    assert [entry.name for entry in (installed / "bin").iterdir()] == ["capx"]


@pytest.mark.parametrize("package", PACKAGES)
def test_the_installed_copy_is_what_gets_imported_as(package: str, installed: Path) -> None:
    found = python(installed, f"import {package}; print({package}.__file__)")
    assert Path(found.strip()) == installed / package / "__init__.py"


@pytest.mark.parametrize("folder", ["tests", "cli", "caveats"])
def test_no_folder_of_the_checkout_becomes_a_module(folder: str, installed: Path) -> None:
    found = python(installed, f"import importlib.util; print(importlib.util.find_spec({folder!r}))")
    assert found.strip() == "None"


def test_the_licence_travels_with_the_wheel(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in archive.namelist())


EMBEDDED = ("jiter", "msgspec", "google-re2", "PyNaCl", "rfc8785")
"""All that a service installs that embeds verifiers, guards and agents, and wants no command line."""
WITHOUT = (
    "click",
    "rich",
    "tomlkit",
    "pymacaroons",
    "httpx",
    "httpx2",
    "requests",
    "langchain",
    "fastapi",
    "starlette",
    "uvicorn",
    "psycopg",
    "mcp",
    "fastmcp",
)


def needed(names: Iterable[str]) -> set[str]:
    """These distributions and what they need themselves, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            wanted = map(Requirement, metadata.requires(name) or ())
            waiting += [one.name for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture(scope="module")
def embedded(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and its five libraries, and no other distribution."""
    folder = installed_into(tmp_path_factory.mktemp("embedded"), wheel)
    for name in needed(EMBEDDED):
        tops = {file.parts[0] for file in metadata.files(name) or () if file.parts[0] != ".."}
        for top in tops:
            source, place = Path(str(metadata.distribution(name).locate_file(top))), folder / top
            if not place.exists():
                place.symlink_to(source)
    return folder


def embedded_python(embedded: Path, program: str) -> str:
    start = f"import sys; sys.path[:0] = [{str(embedded)!r}]\n"
    return run(sys.executable, "-I", "-S", "-W", "error", "-c", start + program, cwd=embedded)


def test_what_a_service_leaves_out_is_not_there(embedded: Path) -> None:
    program = f"from importlib.util import find_spec; print([name for name in {WITHOUT!r} if find_spec(name)])"
    assert embedded_python(embedded, program) == "[]\n"


def test_without_httpx_what_is_listed_can_be_had(embedded: Path) -> None:
    program = "import capx; [getattr(capx, name) for name in dir(capx)]; print('FeedSource' in dir(capx))"
    assert embedded_python(embedded, program) == "False\n"


def test_the_gate_of_mcp_servers_needs_no_sdk(embedded: Path) -> None:
    modules = "capx.guard.mcp.gate, capx.guard.mcp.functions, capx.guard.mcp.table, capx.api.mcp_messages"
    assert embedded_python(embedded, f"import {modules}") == ""


EMBEDDING = """
import asyncio
import capx
from capx.guard.asgi import ASGIGuard, passage
from capx.resource import connect

authority = capx.Authority.temporary()
task = authority.open(tenant="Acme", allow=["crm.read", "slides.write"])

# A verifier in a process of its own, with the keys of one audience.
connection = connect(authority.export_keys("crm"), store=authority.store.place)
sent = capx.ToolCall("crm.read", {"id": 7})
call = capx.Call("crm.read", {"id": 7}, tenant="Acme")
print(connection.verifier().decide(task.bundle.present("crm", sent).text, sent, call).outcome)
connection.close()

# A guarded function, an agent that acts, and one that it delegates to.
@authority.tool("slides.write", tenant="Acme")
def write(text):
    return f"{text} for {capx.current_allowed().tenant}"

agent = capx.Agent(task.bundle, authority=authority)
print(agent.tool(write)(text="slides"))
helper = agent.delegate(to="helper", allow=["crm.read"])
try:
    helper.tool(write)(text="slides")
except capx.Denied as denied:
    print(denied.code)

# A guarded ASGI application.
async def application(scope, receive, send):
    await passage(scope).judge_async("crm.read", {}, tenant="Acme")
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def get(authorization):
    started = []
    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}
    async def send(message):
        started.extend([message["status"]] if "status" in message else [])
    scope = {"type": "http", "method": "GET", "path": "/7", "raw_path": b"/7", "query_string": b"",
             "headers": [(b"authorization", authorization.encode())] if authorization else []}
    await ASGIGuard(application, authority.verifier("crm"))(scope, receive, send)
    return started

request = capx.HttpRequest(method="GET", target="/7")
print(asyncio.run(get(task.bundle.present("crm", request).authorization)), asyncio.run(get("")))
try:
    agent.http({})
except capx.ConfigurationProblem as problem:
    print(problem)
agent.complete()
authority.close()
"""


def test_verifier_guards_and_agent_need_five_libraries(embedded: Path) -> None:
    assert embedded_python(embedded, EMBEDDING).splitlines() == [
        "allowed",
        "slides for Acme",
        "action_not_allowed",
        "[204] [401]",
        "Agent.http needs httpx: pip install 'capx-auth[httpx]'",
    ]


def test_what_is_installed_by_default_gives_a_command_that_works(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        wanted = [Requirement(line) for line in message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])]
    always = {canonicalize_name(one.name) for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})}
    assert always == {
        *map(canonicalize_name, EMBEDDED),
        "click",
        "pymacaroons",
        "rich",
        "tomlkit",
    }


def test_the_wheel_has_the_public_names_of_the_checkout(installed: Path) -> None:
    program = "import capx, capx_caveats; print(*capx.__all__, *capx_caveats.__all__)"
    assert python(installed, program).split() == [*capx.__all__, *capx_caveats.__all__]


def test_the_floors_that_are_tried_are_those_of_the_extras(checkout: Path) -> None:
    wanted = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    extras = {name: name for name in ("fastmcp", "httpx2", "langchain", "requests")} | {"mcp": "mcp-guard"}
    pins = [Requirement(line) for line in (checkout / "tests/frameworks-floors.txt").read_text().splitlines()[1:]]
    assert {pin.name for pin in pins} == extras.keys()
    for pin in pins:
        (tried,) = (one.version for one in pin.specifier)
        (floor,) = (one for one in map(Requirement, wanted[extras[pin.name]]) if one.name == pin.name)
        (oldest,) = (one.version for one in floor.specifier if one.operator == ">=")
        assert Version(tried) == Version(oldest), pin.name
