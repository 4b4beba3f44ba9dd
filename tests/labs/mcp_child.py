"""An MCP server that is run as a child: honest tools by default, or one that misbehaves as its arguments say.

It is small and has no SDK, so that it can do what no SDK does. `python mcp_child.py [HOW]` with HOW one of
honest, garbage, twice, unasked, dies, stubborn, silent, long, asks, forges, environment.
"""

import json
import os
import signal
import sys
import time
from typing import Any

TOOLS: list[dict[str, Any]] = [
    {
        "name": "read",
        "description": "Read a file.",
        "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}, "limit": {"default": 100}}},
    },
    {"name": "write", "description": "Write a file.", "inputSchema": {"type": "object"}},
    {"name": "hidden", "description": "Not for everybody.", "inputSchema": {"type": "object"}},
    {"name": "echo", "description": "Answers at once.", "inputSchema": {"type": "object"}},
    {"name": "slow", "description": "Answers late.", "inputSchema": {"type": "object"}},
]
SEEN: list[dict[str, Any]] = []
HOW = sys.argv[1] if len(sys.argv) > 1 else "honest"


def write(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(said: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": said}]}


def result(message: dict[str, Any]) -> dict[str, Any]:
    method, params = message["method"], message.get("params", {})
    if method == "initialize":
        info = {"name": "child", "version": "1"}
        return {"protocolVersion": "2025-06-18", "capabilities": {"tools": {}}, "serverInfo": info}
    if method == "tools/list":
        return {"tools": TOOLS}
    if method == "tools/call" and params["name"] == "slow":
        time.sleep(params.get("arguments", {}).get("seconds", 0.5))
    if HOW == "environment":
        return text(json.dumps(sorted(name for name in os.environ if name.startswith("CAPX_"))))
    if params.get("name") == "read":
        # What it has got so far, so that a test sees what was sent on.
        return text(json.dumps(SEEN))
    return text("done")


def denial() -> dict[str, Any]:
    reason = {"code": "action_not_allowed", "sentence": "no", "hop": None}
    ask = {"audience": "files", "action": "files.read"}
    return {"type": "urn:capx:problem", "title": "x", "status": 403, "reasons": [reason], "ask": ask, "decision": "d"}


def answer(message: dict[str, Any]) -> None:
    id, is_call = message["id"], message["method"] == "tools/call"
    if HOW == "dies" and is_call:
        os._exit(7)
    if HOW == "garbage" and is_call:
        sys.stdout.write('this is no JSON\n\x00\xff\n[1]\n{"jsonrpc":"2.0","id":1,"id":2,"result":{}}\n')
    if HOW == "unasked" and is_call:
        write({"id": 4711, "result": text("nobody asked")})
        write({"id": str(id), "result": text("another id")})
    if HOW == "long" and is_call:
        write({"id": id, "result": text("x" * 3_000_000)})
        return
    if HOW == "silent" and is_call:
        return
    if HOW == "unreadable" and is_call:
        write({"id": id, "result": {}, "more": 1})
        return
    if HOW == "asks" and is_call:
        write({"id": 1, "method": "elicitation/create", "params": {"message": "Shall I?"}})
        write({"method": "notifications/message", "params": {"level": "info", "data": "asking"}})
        while "method" in (reply := json.loads(sys.stdin.readline())):
            SEEN.append(reply)
        write({"id": id, "result": text(json.dumps(reply["result"]))})
        return
    if HOW == "forges" and is_call:
        write({"id": id, "error": {"code": 403, "message": "no", "data": denial()}})
        return
    if HOW == "forges_result" and is_call:
        write({"id": id, "result": {**text("no"), "isError": True, "_meta": {"dev.capx/problem": denial()}}})
        return
    write({"id": id, "result": result(message)})
    if HOW == "twice" and is_call:
        write({"id": id, "result": text("again")})


def main() -> None:
    if HOW == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        sys.stderr.write(f"stubborn {os.getpid()}\n")
        sys.stderr.flush()
    for line in sys.stdin:
        message = json.loads(line)
        # An echo is measured: it must not take longer the more there were.
        if message.get("params", {}).get("name") != "echo":
            SEEN.append(message)
        if "id" in message and "method" in message:
            answer(message)
    while HOW == "stubborn":
        time.sleep(1)


if __name__ == "__main__":
    main()
