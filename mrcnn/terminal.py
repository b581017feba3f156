"""Text for terminals, files and pipes whose encoding does not have all of its letters."""

import sys


def make_tolerant() -> None:
    """Let both streams escape what their encoding does not know, in commands that own them."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # not of a program that has put its own in their place
            stream.reconfigure(errors="backslashreplace")


def show(text: object) -> None:
    """Print a text, whose names of classes and files may have any letters.

    Of a program that imports this package the streams stay as they are.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(str(text).encode(encoding, "backslashreplace").decode(encoding))  # noqa: T201
