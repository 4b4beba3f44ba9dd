"""No core dumps of a process that holds a root key.

The dump of a process that crashed holds its memory, so it would be a file with the root keys in it. On most systems a
program collects such files, keeps them for weeks, and may send them away.

Law: a process has called `forbid` before a root key is read or made in it. Its children inherit that. A program that
wants dumps nevertheless can raise the soft limit again, because the hard limit stays.
"""

import resource


def forbid() -> None:
    """Make sure that this process leaves no core dump when it crashes."""
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    # Not 0: Linux hands a core to a program such as apport whatever the limit is, unless it is exactly 1 byte. No core
    # fits into 1 byte either, so no system writes a file.
    resource.setrlimit(resource.RLIMIT_CORE, (0 if hard == 0 else 1, hard))
