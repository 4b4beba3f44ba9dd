"""Whatever a client and a server of MCP say, a guard between them passes on what was presented and is allowed, once.

An input is lines. The letters of the first say how the server answers its requests, again and again: `h` honestly, `c`
with another list, `l` late, `n` never, `t` twice, `u` with an unknown id, `e` with an error, `x` with members of capx.
Each other line is what happens next:

    {…}     the client says this; "PRESENT" in it stands for a fresh presentation of that very request, "KNOWN" and
            "LIST" for those that were made of one call, and of one list
    <{…}    the server says this; "#2" in it stands for the id of the third request that it got
    !       the server answers what it answers late
    |  ~    the client ends; the server ends
    %  $    the server, or the client, does not read any more
"""

import asyncio
import json
import selectors
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from capx.api.jsonrpc import (
    Message,
    Notification,
    Request,
    Response,
    UnreadableMessage,
    list_or_empty,
    object_or_none,
    read_message,
    write_message,
)
from capx.api.relay.connection import Gone
from capx.api.relay.lines import Lines, TooLong
from capx.api.relay.relay import Ask, Relay
from capx.background import FewThreads
from capx.errors import CapxError
from capx.guard import guarded_request
from capx.guard.mcp.definitions import definition_digest
from capx.guard.mcp.gate import Gate
from capx.guard.mcp.proxy import GuardHandler
from capx.guard.mcp.table import ToolSpec, ToolTable
from capx.tokens.binding import McpRequest
from capx.verify.verifier import Authentic
from capx_caveats import absent, action, allow, any_of, between, prefix
from tests.fuzz.memory import Memory
from tests.labs.lab import NOW, Lab, minted

T = TypeVar("T")

MOST, MOST_REQUESTS = 4000, 3
OWN, SHOWN = "dev.capx/", "dev.capx/presentation"
MARK = "the-server-itself-has-answered-this"
"""What marks an answer of the server that no line of the input has made."""
OPEN = {"initialize", "ping", "server/discover", "logging/setLevel", "resources/unsubscribe"}
LISTS = {
    "tools/list": "tools",
    "prompts/list": "prompts",
    "resources/list": "resources",
    "resources/templates/list": "resourceTemplates",
}
MEMBERS = {
    "initialize": {"protocolVersion", "capabilities", "clientInfo"},
    "ping": set[str](),
    "server/discover": set[str](),
    "logging/setLevel": {"level"},
    "resources/unsubscribe": {"uri"},
    "resources/read": {"uri"},
    "resources/subscribe": {"uri"},
    "tools/call": {"name", "arguments"},
    "prompts/get": {"name", "arguments"},
    "completion/complete": {"ref", "argument", "context"},
    **{method: {"cursor"} for method in LISTS},
}
"""What a server may get of the params of a request."""
OF_CLIENT = {
    f"io.modelcontextprotocol/{name}" for name in ("protocolVersion", "clientInfo", "clientCapabilities", "logLevel")
}


def tool(name: str, description: str = "", **properties: Any) -> dict[str, Any]:
    return {"name": name, "description": description, "inputSchema": {"type": "object", "properties": properties}}


APPROVED = tool("approved", "as an operator has approved it")
PAGES = (
    [
        tool("read", id={"type": "integer"}, limit={"type": "integer", "default": 5}, q={"type": "string"}),
        tool("write", sku={"type": "string"}, deep={"type": ["array", "object"]}),
        tool("drop"),
    ],
    [tool("echo", text={"type": "string"}), APPROVED, tool("unnamed")],
)
CHANGED: tuple[list[Any], list[Any]] = (
    [tool("read", id={"type": "integer"}, limit={"default": 50}), tool("approved", "changed")],
    [],
)
TABLE = ToolTable(
    "crm",
    {
        "read": ToolSpec("a.read"),
        "write": ToolSpec("a.write", args={"item": "sku"}),
        "echo": ToolSpec("a.echo", texts=("text",)),
        "approved": ToolSpec("a.echo", definition=definition_digest(APPROVED)),
        "drop": ToolSpec("a.drop"),
    },
    prompts={"greet": ToolSpec("a.echo"), "read": ToolSpec("a.read")},
    methods={"acme/look": ToolSpec("a.read")},
)
GRANT = minted(
    allowed=allow(
        action("a.read", id=between(1, 5), limit=any_of(between(None, 10), absent()), q=any_of("x", absent())),
        action("a.write", item=prefix("sku-")),
        action("crm.resource.read", uri=prefix("file:///a/")),
        "a.echo",
    )
)
KNOWN = {
    "KNOWN": McpRequest(method="tools/call", params={"name": "read", "arguments": {"id": 3}}),
    "LIST": McpRequest(method="tools/list"),
}
TOKENS = {name: GRANT.present(one, now=NOW, nonce=name.rjust(16, "A")).text for name, one in KNOWN.items()}

Bound = tuple[str, str]
"""A request as a presentation covers it: its method, and its params as one text."""
Key = tuple[type, Any]
"""An id: the number 1 and the text "1" are two, and true is none."""

memory = Memory()
lab = Lab(replay=memory)


class Threads(FewThreads):
    """Knows how much it has to do."""

    working = 0

    async def run(self, whose: str, work: Callable[[], T]) -> T:
        """Run the work, and count it until it has ended."""
        self.working += 1
        try:
            return await super().run(whose, work)
        finally:
            self.working -= 1


threads = Threads("fuzz")
setattr(guarded_request, "_THREADS", threads)  # noqa: B010 # it is final for others


class Skipping(selectors.DefaultSelector):
    """Waits for threads, and for no time: when nothing else is left to do, it is later."""

    ahead = 0.0

    def select(self, timeout: float | None = None) -> Any:
        """Return what is ready."""
        if timeout is None or (timeout > 0 and threads.working):
            return super().select(None)
        found = super().select(0)
        if not found and timeout > 0:
            self.ahead += timeout
        return found


class Loop(asyncio.SelectorEventLoop):
    """A loop whose time passes when nothing else is left to do."""

    def __init__(self) -> None:
        self.selector = Skipping()
        super().__init__(self.selector)

    def time(self) -> float:
        """The seconds that its tasks have waited."""
        return self.selector.ahead


loop = Loop()


def plain(value: Any) -> Any:
    """A value in which equal numbers are one, and true is no number."""
    if isinstance(value, dict):
        return {name: plain(part) for name, part in members(value).items()}
    if isinstance(value, list):
        return [*map(plain, list_or_empty(value))]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def covered(method: str, params: Any) -> dict[str, Any]:
    """What a presentation covers of the params of a request."""
    sent = {name: value for name, value in members(params).items() if name != "_meta"}
    if method in ("tools/call", "prompts/get") and sent.get("arguments") is None:
        sent["arguments"] = {}
    return sent


def bound(method: str, params: Any) -> Bound:
    return method, json.dumps(plain(covered(method, params)), sort_keys=True)


def reaching(method: str, params: Any) -> Bound:
    """What of a request of the client reaches the server, but for `_meta`."""
    known = MEMBERS.get(method, members(params))
    return bound(method, {name: value for name, value in members(params).items() if name in known})


def key(id: Any) -> Key:
    return (type(id), id) if isinstance(id, int | str) else (type(None), None)


def members(value: Any) -> dict[str, Any]:
    """The members of a value, if it is an object."""
    return object_or_none(value) or {}


def meta_of(params: Any) -> dict[str, Any]:
    return members(members(params).get("_meta"))


class Side:
    """What one side says, in bytes; and what it gets."""

    def __init__(self, got: Any) -> None:
        self.said: asyncio.Queue[bytes] = asyncio.Queue()
        self.lines = Lines(self.said.get, MOST)
        self.got = got
        self.reads = True
        self.wrong: list[Exception] = []
        """What was wrong with what it got: the relay would take the error for one of its own."""

    async def receive(self) -> bytes | None:
        return await self.lines.next()

    async def send(self, message: Message) -> None:
        if not self.reads:
            raise Gone("it does not read any more")
        try:
            self.got(json.loads(write_message(message)))
        except Exception as error:
            self.wrong.append(error)
            raise

    def say(self, data: bytes) -> None:
        self.said.put_nowait(data + b"\n")

    def end(self) -> None:
        self.said.put_nowait(b"")

    async def close(self) -> None: ...

    def hurry(self) -> None: ...

    def ending(self) -> str:
        return "has ended"


class Working(GuardHandler):
    """Knows whether it works, or waits for the server."""

    working = 0

    async def answer(self, request: Request, size: int, ask: Ask, token: Authentic | None = None) -> Response:
        async def waited(asked: Request) -> Response:
            self.working -= 1
            try:
                return await ask(asked)
            finally:
                self.working += 1

        self.working += 1
        try:
            return await super().answer(request, size, waited, token)
        finally:
            self.working -= 1


class World:
    """A client, the guard and a server; each message that arrives is checked."""

    def __init__(self, manners: str) -> None:
        self.manners = manners or "h"
        self.client, self.server = Side(self.answered), Side(self.arrived)
        self.handler = Working(Gate(lab.verifier, TABLE), warned)
        self.relay = Relay(self.client, self.server, self.handler, warn=warned, most=MOST_REQUESTS)
        self.client_ended = False
        self.made = {TOKENS[name]: bound(one.method, dict(one.params)) for name, one in KNOWN.items()}
        self.shown: set[str] = set()
        """The presentations that the client has shown."""
        self.used: set[str] = set()
        """Those whose request has reached the server."""
        self.waiting: dict[Key, Request] = {}
        """The client's requests that have no answer."""
        self.cancelled: list[Bound] = []
        self.refused: list[Key] = []
        """The ids that the answers to messages name that are not served."""
        self.arrivals: list[dict[str, Any]] = []
        self.unanswered: set[Any] = set()
        """The ids of the arrivals that the server has not answered."""
        self.late: list[dict[str, Any]] = []
        self.answers: set[int] = set()
        """The arrivals whose marked answer has reached the client."""
        self.of_server: list[Key] = []
        """The ids of the server's own requests that have no answer."""
        self.is_honest = True
        """Whether the server has said nothing of its tools but the honest list, and that at once."""
        self.has_listed = False
        """Whether the guard may know the honest list."""

    # What the server gets.

    def arrived(self, message: dict[str, Any]) -> None:
        """Take a message at the server."""
        method, params = message.get("method"), members(message.get("params"))
        if method is None:
            # Raises ValueError for what the server has not asked.
            self.of_server.remove(key(message["id"]))
            return
        assert not any(name.startswith(OWN) for name in meta_of(params)), "a member of capx has reached the server"
        if "id" not in message:
            assert method.startswith("notifications/"), "a notification that is none of MCP's has reached the server"
            if method == "notifications/cancelled":
                cancelled = self.arrivals[int(params["requestId"]) - 1]
                assert bound(cancelled["method"], cancelled.get("params")) in self.cancelled, "another is cancelled"
            return
        assert message["id"] == len(self.arrivals) + 1, "an id that was used already, or is none of the relay"
        demand_plain(meta_of(params))
        self.demand_presented(method, params)
        self.arrivals.append(message)
        self.unanswered.add(message["id"])
        manner = self.manners[(message["id"] - 1) % len(self.manners)]
        if method == "tools/list":
            self.is_honest &= manner not in "clnue"
            self.has_listed |= manner != "c"
        if manner == "l":
            self.late.append(message)
        elif manner == "u":
            self.server.say(written(message["id"] + 1000, result=result(message, manner)))
        elif manner != "n":
            self.answer(message, manner)

    def answer(self, message: dict[str, Any], manner: str) -> None:
        """Answer a request."""
        self.unanswered.discard(message["id"])
        if manner == "e":
            # Problem details are the guard's own, so these are made up.
            data = {"type": "urn:capx:denied", "title": "no", "audience": "crm"}
            said = written(message["id"], error={"code": 403, "message": f"{MARK} {message['id']}", "data": data})
        else:
            said = written(message["id"], result=result(message, manner))
        for _ in range(1 + (manner == "t")):
            self.server.say(said)

    def demand_presented(self, method: str, params: dict[str, Any]) -> None:
        """The client waits for the answer to this very request, which it has presented; or the guard needs the list."""
        wanted = bound(method, params)
        asked = [one for one in self.waiting.values() if reaching(one.method, one.params) == wanted]
        if method in OPEN:
            assert asked, "a request has reached the server that nobody waits for"
            return
        tokens = [
            token
            for one in asked
            if (token := self.presentation(one)) is not None and token not in self.used and holds_no_more(one)
        ]
        if tokens:
            self.used.add(tokens[0])
            demand_allowed(method, params)
            if method == "tools/call":
                self.demand_unambiguous(params["name"], members(params.get("arguments")))
            return
        assert method == "tools/list", "a request has reached the server that was not presented"
        assert params.keys() <= {"cursor", "_meta"}
        calls = [one for one in self.waiting.values() if one.method == "tools/call"]
        assert any(map(self.presentation, calls)), "the guard reads the list for nobody"

    def demand_unambiguous(self, name: str, args: dict[str, Any]) -> None:
        """The guard has read the arguments as the tool reads them, by the list that the guard knows."""
        for part, value in args.items():
            assert (name, part) == ("echo", "text") or not parses(value), "a text that the server may parse"
        if self.has_listed:
            known = {"read": ("id", "limit", "q"), "write": ("sku", "deep"), "echo": ("text",)}.get(name, ())
            assert distinct({*known, *args}), "a name that differs from one of the schema only in case"
            assert isinstance(args.get("deep", []), list | dict), "a type that the schema does not name"
        else:
            assert name != "approved", "a tool was called whose definition nobody has approved"
            assert name != "read" or "limit" in args, "a default that no caveat allows"

    def presentation(self, request: Request) -> str | None:
        """The presentation that came with a request, if it was made for that."""
        token = meta_of(request.params).get(SHOWN)
        is_own = isinstance(token, str) and self.made.get(token) == bound(request.method, request.params)
        return token if is_own else None

    # What the client gets.

    def answered(self, message: dict[str, Any]) -> None:
        """Take a message at the client."""
        if "method" in message:
            return
        if (request := self.waiting.pop(key(message["id"]), None)) is None:
            # Raises ValueError for what the client has not asked.
            self.refused.remove(key(message["id"]))
            assert "error" in message
            return
        found, error = members(message.get("result")), members(message.get("error"))
        at = found.get(MARK)
        if str(error.get("message")).startswith(MARK):
            at = int(error["message"].removeprefix(MARK))
            assert "data" not in error, "a server has written a denial"
        if at is None:
            return
        assert at not in self.answers, "one answer has reached the client twice"
        self.answers.add(at)
        arrival = self.arrivals[at - 1]
        same = reaching(request.method, request.params) == bound(arrival["method"], arrival.get("params"))
        assert same, "the answer to another request"
        if found:
            self.demand_shown(request, found)

    def demand_shown(self, request: Request, found: dict[str, Any]) -> None:
        """The client gets what it may see of a result of the server."""
        assert not any(name.startswith(OWN) for name in meta_of(found)), "a server has written a member of capx"
        if request.method in OPEN:
            return
        private = {"ttlMs": 0, "cacheScope": "private"}
        assert {name: found.get(name) for name in private} == private, "an answer that may be kept for another bearer"
        if request.method == "tools/list":
            names = {one["name"] for one in found["tools"]}
            asks = meta_of(request.params).get("dev.capx/asks") is True
            assert names <= {"read", "write", "echo", "approved", *(("drop",) if asks else ())}, "a hidden tool"
            assert [one for one in found["tools"] if one["name"] == "approved"] in ([], [APPROVED])
        elif request.method == "prompts/list":
            assert found["prompts"] == [{"name": "greet", "uri": "file:///a/1"}], "a hidden prompt"

    # What happens.

    async def play(self, lines: list[bytes]) -> None:
        """Let everything happen, and check what must be then."""
        running = asyncio.create_task(self.relay.run())
        for line in lines:
            if not running.done():
                await self.happen(line)
                self.demand_right()
        if not running.done() and self.client.reads and not self.client_ended:
            assert len(self.waiting) <= len(self.unanswered), "a request has no answer"
        self.client.end()
        try:
            ended = await asyncio.wait_for(running, 60)
        except TimeoutError:
            raise AssertionError("the relay does not end") from None
        self.demand_right()
        if ended == "server" and self.client.reads:
            assert not self.waiting, "the server has ended, and a request has no answer"

    def demand_right(self) -> None:
        """Raise what was wrong with a message that has arrived."""
        for error in (*self.client.wrong, *self.server.wrong):
            raise error

    async def settled(self) -> None:
        """Wait until each side waits for another."""
        await asyncio.sleep(0.001)
        while self.handler.working:
            await asyncio.sleep(0.001)

    async def happen(self, line: bytes) -> None:
        """Let one thing happen."""
        if line == b"!":
            while self.late:
                self.answer(self.late.pop(), "l")
        elif line == b"|":
            self.client_ended = True
            self.client.end()
        elif line == b"~":
            self.server.end()
        elif line == b"%":
            self.server.reads = False
        elif line == b"$":
            self.client.reads = False
        elif line.startswith(b"<"):
            self.server_says(line[1:])
        elif not self.client_ended:
            await self.client_says(line)
        await self.settled()

    def server_says(self, line: bytes) -> None:
        """Let the server say anything but a marked answer."""
        for at in range(10):
            line = line.replace(b'"#%d"' % at, b"%d" % (at + 1))
        if MARK.encode() in line:
            return
        id: Any = None
        try:
            if len(line) > MOST:
                id = TooLong(MOST, line[:4096], line[-4096:]).answers()
            else:
                message = read_message(line)
                if isinstance(message, Request):
                    self.of_server.append(key(message.id))
                elif isinstance(message, Response):
                    id = message.id
                elif message.method == "notifications/tools/list_changed" and not self.waiting:
                    self.has_listed = False
        except UnreadableMessage as error:
            id = error.answers
        if id in self.unanswered:
            # It may have been the list.
            self.is_honest, self.has_listed = False, True
            self.unanswered.discard(id)
        self.server.say(line)

    async def client_says(self, line: bytes) -> None:
        """Let the client say anything, and see that what it has to be served is."""
        line = self.with_presentation(line)
        must_arrive = None
        try:
            if len(line) > MOST:
                raise UnreadableMessage("too long")  # noqa: TRY301 # as the relay sees it
            message = read_message(line)
        except UnreadableMessage as error:
            if line.strip() or len(line) > MOST:
                self.refused.append(key(None if key(error.id) in self.waiting else error.id))
        else:
            if isinstance(message, Request):
                must_arrive = self.begun(message)
            elif isinstance(message, Notification) and message.method == "notifications/cancelled":
                cancelled = self.waiting.pop(key(members(message.params).get("requestId")), None)
                if cancelled is not None:
                    self.cancelled.append(reaching(cancelled.method, cancelled.params))
        self.client.say(line)
        before = len(self.arrivals)
        await self.settled()
        self.demand_right()
        if self.client.reads:
            assert not self.refused, "a message that is not served has no answer"
            if must_arrive is not None and self.is_honest:
                arrived = [bound(one["method"], one.get("params")) for one in self.arrivals[before:]]
                assert must_arrive in arrived, "the very request that was presented is refused"

    def begun(self, request: Request) -> Bound | None:
        """Note a request of the client; the request as it is bound if it must reach the server."""
        if key(request.id) in self.waiting:
            self.refused.append(key(None))
            return None
        token = self.presentation(request)
        is_served = self.server.reads and len(self.waiting) < MOST_REQUESTS
        is_fresh = token is not None and token not in self.shown
        self.waiting[key(request.id)] = request
        self.shown.add(str(meta_of(request.params).get(SHOWN)))
        plain_request = is_served and is_fresh and is_allowed(request.method, members(request.params))
        return bound(request.method, request.params) if plain_request else None

    def with_presentation(self, line: bytes) -> bytes:
        """The line with presentations in the places of their names."""
        for name, token in TOKENS.items():
            line = line.replace(b'"%b"' % name.encode(), b'"%b"' % token.encode())
        if b'"PRESENT"' not in line or len(line) > MOST:
            return line
        try:
            found = members(json.loads(line))
            method, params = found["method"], found.get("params")
            nonce = str(len(self.made)).rjust(16, "B")
            token = GRANT.present(McpRequest(method=method, params=covered(method, params)), now=NOW, nonce=nonce).text
            self.made[token] = bound(method, params)
        except (ValueError, TypeError, KeyError, RecursionError, CapxError):
            return line
        return line.replace(b'"PRESENT"', b'"%b"' % token.encode())


def warned(sentence: str) -> None:
    """Take a warning for an operator."""
    assert sentence.isprintable()


def written(id: int, **members: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, **members}).encode()


def result(message: dict[str, Any], manner: str) -> dict[str, Any]:
    """What the server answers to a request."""
    method, params = message["method"], members(message.get("params"))
    found: dict[str, Any] = {MARK: message["id"], "ttlMs": 60_000, "cacheScope": "public"}
    if manner == "x":
        found |= {"_meta": {"dev.capx/problem": {"type": "urn:capx:denied"}, "kept": 1}, "isError": True}
    if method == "tools/list":
        first, rest = CHANGED if manner == "c" else PAGES
        return {**found, "tools": rest} if "cursor" in params else {**found, "tools": first, "nextCursor": "more"}
    if method in LISTS:
        found[LISTS[method]] = [{"name": "greet", "uri": "file:///a/1"}, {"name": "hidden"}, 1]
    return found


def holds_no_more(request: Request) -> bool:
    """Whether a request has no member that nobody judges."""
    found = members(request.params)
    known = MEMBERS.get(request.method, found.keys()) | {"_meta"}
    return all(value is None for name, value in found.items() if name not in known)


def demand_plain(meta: dict[str, Any]) -> None:
    """The server gets only members of `_meta` that MCP names, and plain values where it says so."""
    for name, value in meta.items():
        if name not in OF_CLIENT:
            assert name in ("progressToken", "traceparent", "tracestate", "baggage"), "a member of nobody in `_meta`"
            assert type(value) is str or (name == "progressToken" and type(value) is int), "no plain value in `_meta`"


def demand_allowed(method: str, params: dict[str, Any]) -> None:
    """What the caveats of the grant demand of a request, by its values."""
    assert distinct(params), "a request with two readings"
    if method in LISTS:
        return
    ref = members(params.get("ref"))
    if method in ("resources/read", "resources/subscribe") or ref.get("type") == "ref/resource":
        assert (ref or params)["uri"].startswith("file:///a/"), "a resource that no caveat allows"
        return
    args, kind, name = members(params.get("arguments")), method, params.get("name")
    if method == "completion/complete":
        context = members(members(params.get("context")).get("arguments"))
        args, kind, name = (
            {**context, params["argument"]["name"]: params["argument"]["value"]},
            "prompts/get",
            ref["name"],
        )
    elif method == "acme/look":
        args, name = {part: value for part, value in params.items() if part != "_meta"}, "read"
    assert kind in ("tools/call", "prompts/get", "acme/look"), "a method that no table names"
    assert distinct(args)
    if name == "read":
        assert args.keys() <= {"id", "limit", "q"}
        assert is_number(args["id"]), "no number"
        assert 1 <= args["id"] <= 5, "an id that no caveat allows"
        assert is_number(args.get("limit", 5)), "no number"
        assert args.get("limit", 5) <= 10, "a limit that no caveat allows"
        assert args.get("q", "x") == "x", "a text that no caveat allows"
    elif name == "write" and kind == "tools/call":
        assert args["sku"].startswith("sku-"), "a text that no caveat allows"
    else:
        assert name in ("echo", "approved") if kind == "tools/call" else name == "greet", "a call that no caveat allows"


def parses(value: Any) -> bool:
    """Whether a value is a text that some servers take for another value."""
    try:
        return isinstance(value, str) and isinstance(json.loads(value), list | dict | bool | None)
    except ValueError:
        return False
    except RecursionError:
        return True


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def distinct(names: Iterable[str]) -> bool:
    """Whether names are distinct for a server that does not tell upper from lower case."""
    listed = [name.casefold() for name in names]
    return len(listed) == len(set(listed))


def is_allowed(method: str, params: dict[str, Any]) -> bool:
    """Whether nothing about a request that was presented could refuse it."""
    if params["_meta"].keys() != {SHOWN}:
        return False
    if method in LISTS:
        return params.keys() == {"_meta"}
    if method == "resources/read":
        return params.keys() == {"uri", "_meta"} and params["uri"] == "file:///a/1"
    args = members(params.get("arguments"))
    if method == "prompts/get":
        return params.keys() == {"name", "arguments", "_meta"} and params["name"] == "greet" and args == {"a": "b"}
    if method != "tools/call" or params.keys() != {"name", "arguments", "_meta"}:
        return False
    if params["name"] == "echo":
        return args.keys() == {"text"} and isinstance(args["text"], str)
    id, limit = args.get("id"), args.get("limit", 5)
    good = type(id) is int and type(limit) is int and 1 <= id <= 5 and limit in range(-100, 11)
    return params["name"] == "read" and good and args.keys() <= {"id", "limit", "q"} and args.get("q", "x") == "x"


def call(id: Any, name: Any, shown: str | None = "PRESENT", method: str = "tools/call", /, **arguments: Any) -> bytes:
    meta = {} if shown is None else {"_meta": {SHOWN: shown}}
    return request(id, method, name=name, arguments=arguments, **meta)


def request(id: Any, method: str, /, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}, separators=(",", ":")).encode()


def told(method: str, /, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "params": params}, separators=(",", ":")).encode()


PRESENT: Any = {"_meta": {SHOWN: "PRESENT"}}
VERSION: Any = {"_meta": {SHOWN: "PRESENT", "io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
READ = call(1, "read", id=3, q="x")
CHANGES = b"<" + told("notifications/tools/list_changed")


def seeds() -> Iterable[bytes]:
    """Sessions, each about one thing."""
    sessions: list[tuple[bytes, ...]] = [
        (b"h", request(1, "initialize", protocolVersion="2025-11-25"), told("notifications/initialized"), READ),
        (b"h", call(1, "read", "KNOWN", id=3), call(2, "read", "KNOWN", id=3), call(3, "read", "KNOWN", id=4)),
        (b"h", READ, call(2, "write", sku="sku-1", deep=[[1]]), call(3, "echo", text="{}"), call(4, "drop")),
        (b"h", *(call(1, "write", sku="sku-1", deep=deep) for deep in ("[1]", 1, "a", {"b": ["null"]}))),
        (
            b"h",
            call(1, "write", sku="sku-1", Deep=[]),
            call(2, "write", SKU="a", sku="sku-1"),
            call(3, "echo", a=1, A=2),
        ),
        (b"h", request(1, "tools/call", name="echo", Name="drop", **PRESENT), call(2, "echo", text="a", other="true")),
        (b"h", call(1, "read", "KNOWN", id=4), request(2, "tools/list", cursor="more", _meta={SHOWN: "LIST"}), READ),
        (b"h", request(1, "tools/list", _meta={SHOWN: "LIST"}), request(1, "tools/list", _meta={SHOWN: "LIST"})),
        (b"h", call(1, "read", id=6), call(2, "read", id=1, limit=11), call(3, "read", None, id=3)),
        (b"h", call("a", "read", id="3"), call("b", "read", Id=3, id=3), call("c", "echo", text=["{}"], other="{}")),
        (b"h", call(1, "read", id=3.0), call("1", "read", id=True), call(1, "unknown"), call(2, {}, id=1)),
        (b"h", *(request(at, method, **PRESENT) for at, method in enumerate(LISTS))),
        (b"h", *(request(at, method, **VERSION) for at, method in enumerate(LISTS)), READ),
        (b"x", request(1, "tools/list", _meta={SHOWN: "PRESENT", "dev.capx/asks": True}, cursor="more"), READ),
        (b"c", request(1, "tools/list", **PRESENT), call(2, "approved"), CHANGES, call(3, "read", id=1)),
        (b"hhhcch", call(1, "approved"), CHANGES, call(2, "approved"), CHANGES, call(3, "approved")),
        (b"t", READ, call(2, "echo", text="a")),
        (b"hhl", READ, READ, call(2, "echo", text="a"), b"!"),
        (b"l", READ, call(2, "read", id=4), b"!", b"!", b"!"),
        (
            b"hhnl",
            READ,
            told("notifications/cancelled", requestId=1),
            READ,
            b'<{"jsonrpc":"2.0","id":"#2","result":{}}',
            b"!",
        ),
        (b"hhnn", call(9, "read", id=1), READ, told("notifications/cancelled", requestId=1)),
        (b"l", READ, told("notifications/cancelled", requestId=1, **PRESENT), READ, b"!", b"!"),
        (b"hhu", READ, call(2, "read", id=2), b'<{"jsonrpc":"2.0","id":"#3","result":{"content":[]}}'),
        (b"hhe", READ, b"x"),
        (b"e", READ, request(1, "ping"), request(2, "ping")),
        (b"hhn", READ, call(2, "read", id=1), call(3, "read", id=2), call(4, "read", id=3), call(5, "read", id=4)),
        (b"hhn", READ, call(2, "read", id=1), b"~"),
        (b"hhl", READ, b"|", b"!"),
        (b"hhn", READ, b"|"),
        (b"hh", READ, b"%", call(2, "read", id=1), told("notifications/progress")),
        (b"hh", READ, b"$", call(2, "read", id=1)),
        (
            b"h",
            b'<{"jsonrpc":"2.0","id":7,"method":"sampling/createMessage"}',
            b'{"jsonrpc":"2.0","id":7,"result":{}}',
        ),
        (b"h", *(b'<{"jsonrpc":"2.0","id":%d,"method":"ping"}' % at for at in (1, 1, 2, 3, 4)), b"{}"),
        (b"h", b'<{"jsonrpc":"2.0","id":"a","method":"ping"}', b"<" + told("notifications/cancelled", requestId="a")),
        (b"h", b'{"jsonrpc":"2.0","id":"a","result":{}}', b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', b"[]"),
        (b"n", request(1, "ping"), b'{"jsonrpc":"2.0","id":1,"method":"ping","also":1}', b"<{"),
        (
            b"n",
            request(1, "ping"),
            b'<{"jsonrpc":"2.0","id":1,"result":{},"error":{}}',
            b'<{"id":1,"x":"%b"}' % (b"y" * MOST),
        ),
        (b"h", told("tools/call", name="read", arguments={"id": 3}), told("notifications/x", **PRESENT)),
        (b"h", call(1, "greet", "PRESENT", "prompts/get", a="b"), call(2, "read", "PRESENT", "prompts/get", id=6)),
        (
            b"h",
            request(1, "resources/read", uri="file:///a/1", **PRESENT),
            request(2, "resources/read", uri="a", **PRESENT),
        ),
        (
            b"h",
            request(
                1,
                "completion/complete",
                ref={"type": "ref/prompt", "name": "read"},
                argument={"name": "id", "value": "1"},
                context={"arguments": {"q": "x"}},
                **PRESENT,
            ),
            *(
                request(
                    2,
                    "completion/complete",
                    ref={"type": "ref/prompt", "name": "read"},
                    argument={"name": "q", "value": value},
                    context={"arguments": {"id": 1}},
                    **PRESENT,
                )
                for value in ("x", "y")
            ),
            request(
                3,
                "completion/complete",
                ref={"type": "ref/resource", "uri": "file:///a/{b}"},
                argument={"name": "b", "value": "x"},
                **PRESENT,
            ),
        ),
        (
            b"h",
            request(1, "resources/read", uri="file:///a/1", path=None, **PRESENT),
            request(2, "resources/read", uri="file:///a/1", path="/secret", **PRESENT),
            request(3, "tools/call", name="echo", requestState="s", task={}, **PRESENT),
            request(4, "logging/setLevel", level="info", task={}, _meta={"progressToken": {}, "baggage": "a=1"}),
            request(5, "tools/list", _meta={SHOWN: "PRESENT", "progressToken": True}),
            request(6, "tools/list", _meta={SHOWN: "PRESENT", "progressToken": "p", "other": 1}),
        ),
        (
            b"h",
            request(1, "acme/look", id=2, **PRESENT),
            request(2, "acme/look", id=6, **PRESENT),
            request(2, "acme/other", **PRESENT),
        ),
        (
            b"h",
            call(1, "echo", text="x" * 1500),
            call(2, "echo", text="x" * MOST),
            call(3, "write", sku="sku-" + "y" * 1500),
        ),
        (b"h", b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"a":%b%b}}' % (b"[" * 985, b"]" * 985)),
        (b"h", b'{"jsonrpc":"2.0","method":"notifications/a","params":{"a":%b%b}}' % (b"[" * 985, b"]" * 985), READ),
    ]
    for session in sessions:
        yield b"\n".join(session)


def check(data: bytes) -> None:
    """Play a session."""
    manners, *lines = data[:8000].split(b"\n")
    memory.seen.clear()
    lab.records.decisions.clear()
    errors: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    world = World(manners.decode("latin-1")[:16])
    loop.run_until_complete(world.play(lines[:20]))
    assert not errors, errors
