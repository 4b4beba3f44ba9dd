"""A FastMCP server over standard input and output, or over HTTP at the port that it is given."""

import sys

from fastmcp import Context, FastMCP

server = FastMCP("files")


@server.tool
def read(path: str, limit: int = 100) -> str:
    """Read a file."""
    return f"{path}: {limit} lines"


@server.tool
def write(path: str, text: str) -> str:
    """Write a file."""
    return f"wrote {len(text)} characters to {path}"


@server.tool
def delete(path: str) -> str:
    """Delete a file."""
    return f"deleted {path}"


@server.tool
async def count(to: int, ctx: Context) -> str:
    """Count, and say how far it is."""
    for nth in range(to):
        await ctx.report_progress(nth, to)
        await ctx.info(f"at {nth}")
    return f"counted to {to}"


@server.resource("files://readme")
def readme() -> str:
    """What this is."""
    return "read me"


@server.prompt
def review(path: str) -> str:
    """Review a file."""
    return f"Review {path}."


if __name__ == "__main__":
    if len(sys.argv) > 1:
        kind = {"json_response": "json" in sys.argv, "stateless_http": "stateless" in sys.argv}
        server.run("http", show_banner=False, port=int(sys.argv[1]), **kind)
    server.run("stdio", show_banner=False)
