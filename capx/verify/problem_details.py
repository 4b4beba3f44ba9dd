"""Problem details for HTTP (RFC 9457): one shape for verifier, guards and server."""

from typing import Any, Literal


def problem_details(
    of: Literal["problem", "reason"], status: int, code: str, detail: str, **more: Any
) -> dict[str, Any]:
    """The JSON object. `of` is `problem` if the request could not be served, `reason` if the call was denied."""
    return {
        "type": f"urn:capx:{of}:{code}",
        "title": code.replace("_", " "),
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
