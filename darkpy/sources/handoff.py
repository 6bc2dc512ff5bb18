"""Handing items from one thread to another through a short queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Handoff(Generic[Item]):
    """A bounded queue between two threads, which either of them may end.

    drops_oldest: a full queue drops its oldest item for a new one; otherwise `put` waits.
    dropped: number of items dropped so far.
    """

    def __init__(self, capacity: int, *, drops_oldest: bool = False) -> None:
        self.dropped = 0
        self._capacity, self._drops_oldest = capacity, drops_oldest
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._is_finished = self._is_closed = False
        self._error: BaseException | None = None

    def put(self, item: Item, *, alone: bool = False) -> bool:
        """Add an item. Returns: False when no one takes items any more.

        alone: wait until all others are taken.
        """
        with self._changed:
            while len(self._items) >= (1 if alone else self._capacity) and not self._is_closed:
                if self._drops_oldest:
                    self._items.popleft()
                    self.dropped += 1
                else:
                    self._changed.wait()
            if not self._is_closed:
                self._items.append(item)
                self._changed.notify_all()
            return not self._is_closed

    def finish(self, error: BaseException | None = None) -> None:
        """Say that no item follows; the error is raised behind the last item."""
        with self._changed:
            self._is_finished, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Drop the items and end both sides; may be called from any thread, and twice."""
        with self._changed:
            self._is_closed = True
            self._items.clear()
            self._changed.notify_all()

    def wait_closed(self, seconds: float) -> bool:
        """Wait for `close`, at most for this time. Returns: True when it was called."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_closed, seconds)

    def __iter__(self) -> Iterator[Item]:
        """Yield the items until the other side finishes, or the queue is closed. Raises: the error of `finish`."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._is_finished or self._is_closed)
                if not self._items:
                    if self._error is not None and not self._is_closed:
                        raise self._error
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


class Worker(Generic[Item]):
    """A thread that handles items one after the other, in order.

    The error with which it ends is raised once: again, while another one is handled, it would be its own context in the
    end, and contextlib.ExitStack would follow that forever.

    capacity: items that may wait; `put` waits while there are more, or drops the oldest with `drops_oldest`.
    """

    def __init__(self, handle: Callable[[Item], object], *, capacity: int = 2, drops_oldest: bool = False) -> None:
        self._queue: Handoff[Item] = Handoff(capacity, drops_oldest=drops_oldest)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(handle,), daemon=True)
        self._thread.start()

    def put(self, item: Item) -> None:
        """Give the thread an item, which is dropped if it has ended. Raises: the error with which it ended."""
        if not self._queue.put(item):
            self._raise_error()

    def finish(self, seconds: float | None = None) -> None:
        """Wait until all items are handled, or for this time. Raises: the error with which the thread ended."""
        self._queue.finish()
        self._thread.join(seconds)
        self._raise_error()

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self, handle: Callable[[Item], object]) -> None:
        try:
            for item in self._queue:
                handle(item)
        except BaseException as error:  # raised in the thread that puts items
            self._error = error
            self._queue.close()
