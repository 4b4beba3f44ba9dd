"""Whatever clients send to a guard of MCP over HTTP, only what was presented and is allowed reaches the server, once.

An input is lines, each a request of HTTP: letters, `|`, and the body. In the body, "PRESENT", "KNOWN" and "LIST" stand
for presentations, as for `mcp`. The letters say what is unusual:

    G D X    the method is GET, DELETE or another one
    h k m    the head shows the presentation of the body, a known one, or a made-up one; `2` shows it twice
    s t      it is of one of two sessions
    < > ? !  the length is too small, too large, no number, or not there
    w o H    another content type, a page of another origin, another host
    b        spaces before the body make it a large one
    c        it comes in pieces
    a        it comes from another address
    +        the next one does not wait for its answer
    .        the client leaves before its answer
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx

from capx.errors import CapxError
from capx.guard.mcp.gate import Gate
from capx.guard.mcp.listener import Listener
from capx.guard.mcp.proxy import GuardHandler
from capx.tokens.binding import McpRequest
from tests.fuzz.mcp_target import (
    GRANT,
    KNOWN,
    OPEN,
    OWN,
    PAGES,
    SHOWN,
    TABLE,
    TOKENS,
    Bound,
    bound,
    covered,
    demand_allowed,
    demand_plain,
    holds_no_more,
    lab,
    loop,
    members,
    memory,
    meta_of,
    reaching,
    warned,
)
from tests.labs.lab import NOW

LARGE, MOST = 1 << 16, 1 << 17
MADE_UP = "capx1_" + "A" * 300
ATTEMPTS = 12
"""The most requests of one input."""
META = '"_meta":{"dev.capx/presentation":"PRESENT"}'
CALL = (
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"read","arguments":{"id":3,"limit":5},'
    + META
    + "}}"
)
LIST = '{"jsonrpc":"2.0","id":"l","method":"tools/list","params":{' + META + "}}"
SEEDS = (
    [f"|{CALL}", f"h|{CALL}", f"m|{CALL}", f"h2|{CALL}"],
    [f"hs|{CALL}", f"sb|{CALL}", f"tb|{CALL}", "Gs|", "Gt|", "G|"],
    [f"hb|{CALL}", f"b|{CALL}", f"kb|{CALL}"],
    [f"h<|{CALL}", f"h>|{CALL}", f"h?|{CALL}", f"h!|{CALL}"],
    [f"hc+|{CALL}", f"ha+|{LIST}", "s|" + CALL.replace("PRESENT", "KNOWN"), "|" + CALL.replace("PRESENT", "KNOWN")],
    ['|{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"capabilities":{}}}', "Ds|", "X|", f"w|{CALL}"],
    [
        f"o|{CALL}",
        f"H|{CALL}",
        '|{"jsonrpc":"2.0","method":"notifications/initialized"}',
        '|{"jsonrpc":"2.0","id":7,"result":{}}',
    ],
    [f"hs+.|{CALL}", 's|{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}'],
    ["G+|", "G+a|", "Gs+|", "G|", f"hs|{CALL}", "Gs|"],
    ['|{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', "|" + "[" * 300 + "]" * 300, "|[]", "|"],
)


class Said(httpx.AsyncByteStream):
    """What the server says; then it ends, or waits until all is over."""

    def __init__(self, data: bytes, over: asyncio.Event | None = None) -> None:
        self.data = data
        self.over = over

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self.data
        if self.over is not None:
            await self.over.wait()


class Sent:
    """One request of a client, as a reader of its own has it; and what came of it."""

    def __init__(self, letters: str, body: bytes) -> None:
        self.letters = letters
        self.body = b" " * (LARGE + 1) + body if "b" in letters else body
        self.message = strict(self.body)
        self.token = meta_of(self.message.get("params")).get(SHOWN)
        self.answers: list[Any] = []
        self.received = 0
        self.left = asyncio.Event()
        if "." in letters:
            self.left.set()

    @property
    def session(self) -> str | None:
        return next((letter for letter in self.letters if letter in "st"), None)

    @property
    def shown(self) -> str | None:
        """What the head shows."""
        shown = {"h": self.token, "k": TOKENS["KNOWN"], "m": MADE_UP}
        return next((shown[letter] for letter in self.letters if letter in shown), None)

    @property
    def length(self) -> str | None:
        """The length that the head says."""
        wrong = {"!": None, "<": str(len(self.body) - 1), ">": str(len(self.body) + 1), "?": "1e3"}
        return next((wrong[one] for one in self.letters if one in wrong), str(len(self.body)))

    def headers(self) -> Iterable[tuple[str, str]]:
        yield "host", "elsewhere" if "H" in self.letters else "127.0.0.1:1"
        yield "content-type", "text/plain" if "w" in self.letters else "application/json"
        if self.length is not None:
            yield "content-length", self.length
        if "o" in self.letters:
            yield "origin", "https://elsewhere"
        if self.session is not None:
            yield "mcp-session-id", self.session
        if isinstance(self.shown, str) and self.shown.isascii() and self.shown.isprintable():
            for _ in range(1 + ("2" in self.letters)):
                yield "Capx-Presentation", self.shown

    def pieces(self) -> list[bytes]:
        size = 7 if "c" in self.letters and len(self.body) < 1000 else 40_000
        return [self.body[at : at + size] for at in range(0, len(self.body), size)] or [b""]

    async def call(self, app: Listener) -> None:
        """Be served."""
        methods = {"G": "GET", "D": "DELETE", "X": "PUT"}
        method = next((name for letter, name in methods.items() if letter in self.letters), "POST")
        pairs = [(name.encode(), value.encode("latin-1")) for name, value in self.headers()]
        left = self.pieces()

        async def receive() -> Any:
            if left:
                piece = left.pop(0)
                self.received += len(piece)
                return {"type": "http.request", "body": piece, "more_body": bool(left)}
            await self.left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.answers.append(message)

        client = ("127.0.0.2" if "a" in self.letters else "127.0.0.1", 1)
        scope = {"type": "http", "method": method, "path": "/mcp", "headers": pairs, "client": client}
        await app(scope, receive, send)

    def demand_one_answer(self) -> None:
        """There is one answer, and its end; none for a client that has left."""
        kinds = [one["type"] for one in self.answers]
        assert kinds.count("http.response.start") <= 1, "two answers"
        assert not kinds or kinds[0] == "http.response.start", "a body without a head"
        ends = [one for one in self.answers if one["type"] == "http.response.body" and not one.get("more_body")]
        assert len(ends) <= 1, "two ends"
        if not self.left.is_set():
            assert len(ends) == 1, "no answer"
            assert self.answers[-1] is ends[0], "something behind the end"


class World:
    """The guard, a server, and what was sent; each message that arrives is checked."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.http = httpx.AsyncClient(transport=httpx.MockTransport(self.arrived))
        handler = GuardHandler(Gate(lab.verifier, TABLE), warned)
        hosts = ("127.0.0.1",)
        self.app = Listener(
            handler, self.http, "http://server/mcp", warn=warned, hosts=hosts, max_message=MOST, most=4, most_streams=4
        )
        self.made: dict[str, Bound] = {TOKENS[name]: bound(one.method, dict(one.params)) for name, one in KNOWN.items()}
        self.sent: list[Sent] = []
        self.used: set[str] = set()
        self.callers: set[str] = set()
        """The sessions in which a presentation was judged."""
        self.wrong: list[BaseException] = []

    async def arrived(self, request: httpx.Request) -> httpx.Response:
        """Take a request of HTTP at the server."""
        try:
            return self.answer(request)
        except AssertionError as error:
            # The guard would take it for an error of the server.
            self.wrong.append(error)
            raise

    def answer(self, request: httpx.Request) -> httpx.Response:
        assert "capx-presentation" not in request.headers, "the server sees a presentation"
        if request.method == "GET":
            return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Said(b":\n\n", self.over))
        if request.method == "DELETE":
            self.callers.discard(request.headers.get("mcp-session-id", ""))
            return httpx.Response(204)
        message = strict(request.content)
        assert message, "what reaches the server is no message"
        params = message.get("params")
        assert not any(name.startswith(OWN) for name in meta_of(params)), "a member of capx has reached the server"
        if "method" not in message:
            raise AssertionError("an answer that the server has not asked for")
        if "id" not in message:
            assert message["method"].startswith("notifications/"), "a notification that is none of MCP's"
            return httpx.Response(202)
        demand_plain(meta_of(params))
        self.demand_presented(message["method"], members(params), request.headers.get("mcp-session-id"))
        listed = PAGES[1] if "cursor" in members(params) else PAGES[0]
        found = {"tools": listed, **({} if "cursor" in members(params) else {"nextCursor": "more"})}
        result = found if message["method"] == "tools/list" else {}
        said = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode()
        return httpx.Response(200, headers={"content-type": "application/json"}, stream=Said(said))

    def demand_presented(self, method: str, params: dict[str, Any], session: str | None) -> None:
        """A client has sent this very request, and presented it, in the head too if it has shown something there."""
        wanted = bound(method, params)
        for one in self.sent:
            asked = one.message
            if asked.get("method") != method or one.session != session or "id" not in asked:
                continue
            is_shown = one.shown is None or (one.shown == one.token and "2" not in one.letters)
            if reaching(method, asked.get("params")) != wanted or not is_shown:
                continue
            if method in OPEN:
                return
            token = one.token
            if not isinstance(token, str) or self.made.get(token) != bound(method, asked.get("params")):
                continue
            if token not in self.used and holds_no_more(as_request(asked)):
                self.used.add(token)
                demand_allowed(method, params)
                if session is not None:
                    self.callers.add(session)
                return
        calls = [one for one in self.sent if one.message.get("method") == "tools/call"]
        is_guards = method == "tools/list" and params.keys() <= {"cursor", "_meta"}
        assert is_guards, "a request has reached the server that was not presented"
        shown = [one.token for one in calls if isinstance(one.token, str)]
        assert any(token in self.made for token in shown), "the guard reads the list for nobody"

    def begin(self, line: str) -> Sent:
        letters, _, text = line.partition("|")
        return Sent(letters, self.with_presentation(text).encode("utf-8", "surrogatepass"))

    def with_presentation(self, text: str) -> str:
        for name, token in TOKENS.items():
            text = text.replace(f'"{name}"', f'"{token}"')
        if '"PRESENT"' not in text:
            return text
        try:
            found = members(json.loads(text))
            method, params = found["method"], found.get("params")
            nonce = str(len(self.made)).rjust(16, "C")
            token = GRANT.present(McpRequest(method=method, params=covered(method, params)), now=NOW, nonce=nonce).text
            self.made[token] = bound(method, params)
        except (ValueError, TypeError, KeyError, RecursionError, CapxError):
            return text
        return text.replace('"PRESENT"', f'"{token}"')

    async def play(self, lines: list[str]) -> None:
        """Let everything happen, and check what must be then."""
        calls: list[asyncio.Task[None]] = []
        for line in lines[:ATTEMPTS]:
            one = self.begin(line)
            self.sent.append(one)
            may_be_large = one.session in self.callers or one.shown in self.made
            calls.append(asyncio.create_task(one.call(self.app)))
            if "+" not in one.letters and "G" not in one.letters:
                await asyncio.wait({calls[-1]}, timeout=60)
                assert calls[-1].done(), "a request hangs"
            else:
                await asyncio.sleep(0.001)
            if set("GDX") & set(one.letters):
                continue
            if len(one.body) > LARGE and not may_be_large and "<" not in one.letters:
                assert not one.received, "a large body of a stranger was read"
            if set(one.letters) <= set("hstca") and line.partition("|")[2] in (CALL, LIST) and not calls[:-1]:
                assert one.token in self.used, "the very request that was presented is refused"
            if one.length is None or not one.length.isdecimal():
                assert not one.received, "a body without a length was read"
        self.over.set()
        await asyncio.wait_for(asyncio.gather(*calls), 60)
        await self.http.aclose()
        for error in self.wrong:
            raise error
        for one in self.sent:
            one.demand_one_answer()
        self.demand_given_back()

    def demand_given_back(self) -> None:
        """Nothing is held when nobody is served."""
        app: Any = self.app
        for slots in (app._slots, app._inbound._bytes):
            assert not slots._taken, "slots are not given back"
        assert app._sessions._streams == [], "a stream is not given back"
        assert app._judged == {}, "a request is not forgotten"


def as_request(message: dict[str, Any]) -> Any:
    """A message as the other target has it."""

    class Request:
        method = message["method"]
        params = message.get("params")

    return Request


def strict(data: bytes) -> dict[str, Any]:
    """The message in these bytes, by the standard library alone; nothing if it is none."""
    try:
        found = members(json.loads(data.decode(), object_pairs_hook=distinct, parse_constant=no_number))
    except (ValueError, RecursionError):
        return {}
    kinds = ({"jsonrpc", "id", "method", "params"}, {"jsonrpc", "id", "result", "error"})
    is_message = found.get("jsonrpc") == "2.0" and any(found.keys() <= kind for kind in kinds)
    return found if is_message and isinstance(found.get("params"), dict | None) else {}


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice")
    return found


def no_number(text: str) -> Any:
    raise ValueError(text)


def check(data: bytes) -> None:
    """Raise AssertionError if something passes that should not, or does not end."""
    memory.seen.clear()
    lines = re.split(r"[\r\n]+", data.decode("utf-8", "replace"))
    loop.run_until_complete(World().play([line for line in lines if line]))


def seeds() -> Iterable[bytes]:
    """What the search begins with."""
    for lines in SEEDS:
        yield "\n".join(lines).encode()
