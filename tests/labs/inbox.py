"""What a command says of a request, in words or as JSON."""

import json
from collections.abc import Callable


def told(request: str, state: str, words: str) -> Callable[[str, str], bool]:
    """Whether it was said what became of a request, in words or as JSON."""

    def said(out: str, _: str) -> bool:
        for line in out.splitlines(keepends=True):
            if line.endswith("}\n"):
                one = json.loads(line)
                if (one["id"], one["state"]) == (request, state):
                    return True
            elif request in line and words in line:
                return True
        return False

    return said
