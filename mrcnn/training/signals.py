"""Signals that end a training: it ends between two steps, after its checkpoint was written."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

# With the handlers of a program that has set none. One that is ignored (nohup) stays so.
DEFAULTS: dict[str, Any] = {
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}


class Signals:
    """As a context, notes Ctrl-C, SIGTERM and SIGHUP instead of ending the program at once.

    Handlers that the program has set itself stay; so do all of them in threads other than the main
    one, where Python allows no change. Those that were there before come back at the end.
    """

    def __init__(self) -> None:
        self._noted: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._is_held = False
        self._is_ending = False

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for name, default in DEFAULTS.items():
                number = getattr(signal, name, None)  # Windows has no SIGHUP
                if number is not None and signal.getsignal(number) == default:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def check(self) -> None:
        """Raise what a signal that was noted asks for: KeyboardInterrupt or SystemExit(128 + n)."""
        if self._noted is not None and not self._is_ending:
            self._is_ending = True
            raise (
                KeyboardInterrupt if self._noted == signal.SIGINT else SystemExit(128 + self._noted)
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Let no signal break off the block, however many come."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        is_second = self._noted is not None
        self._noted = self._noted or signal.Signals(number)
        if is_second and not self._is_held:  # what the program waits for takes too long
            self.check()
