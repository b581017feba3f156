"""Output to terminals, files and pipes whose encoding lacks some of its characters."""

import sys


def make_tolerant() -> None:
    """Let stdout and stderr escape unencodable characters, in commands that own them.

    Lines appear when they are written, in files and pipes as in a terminal.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not if the program has replaced them
            stream.reconfigure(errors="backslashreplace", line_buffering=True)


def show(text: object) -> None:
    """Print text whose class and file names may contain any characters.

    The streams of a program that imports this package are left unchanged.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(str(text).encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201
