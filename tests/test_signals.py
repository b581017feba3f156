import os
import signal
import threading

import pytest

from mrcnn.training.signals import Signals

ENDINGS = [
    (signal.SIGINT, KeyboardInterrupt, None),
    (signal.SIGTERM, SystemExit, 143),
    (signal.SIGHUP, SystemExit, 129),
]


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.fixture(autouse=True)
def _default_handlers():
    before = {number: signal.getsignal(number) for number, *_ in ENDINGS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "error", "code"), ENDINGS)
def test_a_signal_ends_the_training_where_it_asks(number, error, code):
    before = signal.getsignal(number)
    with Signals() as signals:
        signals.check()
        send(number)  # which would end the process
        with pytest.raises(error) as caught:
            signals.check()
    assert getattr(caught.value, "code", None) == code
    assert signal.getsignal(number) == before


@pytest.mark.parametrize(("number", "error", "code"), ENDINGS)
def test_a_second_signal_ends_at_once_what_takes_too_long(number, error, code):
    del code
    with Signals():
        send(number)
        with pytest.raises(error):
            send(number)


def test_no_signal_breaks_off_what_is_held():
    done = []
    with Signals() as signals:
        with signals.held():
            for _ in range(3):
                send(signal.SIGTERM)
            done.append("written")
        with pytest.raises(SystemExit):
            signals.check()
        with signals.held():  # the checkpoint of the interruption
            send(signal.SIGINT)
            done.append("written again")
        send(signal.SIGINT)  # on the way out
    assert done == ["written", "written again"]


def test_handlers_of_the_program_stay():
    seen = []
    signal.signal(signal.SIGTERM, lambda *_: seen.append("mine"))
    with Signals() as signals:
        send(signal.SIGTERM)
        signals.check()
    assert seen == ["mine"]


def test_what_is_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with Signals() as signals:
        send(signal.SIGHUP)
        signals.check()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_in_another_thread_nothing_is_changed():
    found = []

    def look():
        with Signals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [signal.SIG_DFL]
