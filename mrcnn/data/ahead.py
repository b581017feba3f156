"""Ordered prefetching by threads."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def in_order(load: Callable, positions: Iterator[int], workers: int, ahead: int) -> Generator:
    """Yield load(position) for each position, in order, with `ahead` of them prefetched.

    Args:
        workers: Number of threads; 0 loads in the calling thread.
    """
    if workers == 0:
        yield from map(load, positions)
        return
    executor = ThreadPoolExecutor(workers, thread_name_prefix="mrcnn-data")
    pending: deque[Future] = deque()
    try:
        pending.extend(executor.submit(load, place) for place in itertools.islice(positions, ahead))
        while pending:
            result = pending.popleft().result()
            pending.extend(executor.submit(load, place) for place in itertools.islice(positions, 1))
            yield result
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
