"""Problem details for HTTP (RFC 9457), whoever tells them."""

from typing import Any, Literal


def problem_details(
    of: Literal["problem", "reason"], status: int, code: str, detail: str, **more: Any
) -> dict[str, Any]:
    """The object: `of` says whether the request could not be served, or the call was refused for a reason."""
    return {
        "type": f"urn:capx:{of}:{code}",
        "title": code.replace("_", " "),
        "status": status,
        "detail": detail,
        "code": code,
        **more,
    }
