"""Signals that end a training: it stops between two steps, after writing its checkpoint."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

# Only signals with default handlers are replaced. An ignored one (nohup) stays ignored.
DEFAULTS: dict[str, Any] = {
    "SIGINT": signal.default_int_handler,
    "SIGTERM": signal.SIG_DFL,
    "SIGHUP": signal.SIG_DFL,
}


class Signals:
    """Context manager that records Ctrl-C, SIGTERM and SIGHUP instead of exiting at once.

    Handlers that the program has set itself are kept, as are all handlers outside the main thread,
    where Python does not allow changes. Previous handlers are restored on exit.
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
        """Raise KeyboardInterrupt or SystemExit(128 + n) if a signal was recorded."""
        if self._noted is not None and not self._is_ending:
            self._is_ending = True
            raise (
                KeyboardInterrupt if self._noted == signal.SIGINT else SystemExit(128 + self._noted)
            )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep any number of signals from interrupting the block."""
        self._is_held = True
        try:
            yield
        finally:
            self._is_held = False

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        is_second = self._noted is not None
        self._noted = self._noted or signal.Signals(number)
        if is_second and not self._is_held:  # the user will not wait for the step to finish
            self.check()
