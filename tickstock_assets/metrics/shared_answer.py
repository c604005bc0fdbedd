"""One answer for all who ask at about the same time, made by one thread, and waited for no longer than a bound."""

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger(__name__)


class SharedAnswer[T]:
    """Something that takes time to make, kept for some seconds.

    However many ask, it is made once at a time. Whoever has waited long enough goes without: a maker that hangs, as on a
    server that has stopped answering, holds up nobody else and is not joined by others.

    Args:
        make: makes it, in a thread of its own; what it raises is logged, and nobody gets an answer.
        keep_seconds: how long it is as good as new.
        wait_seconds: how long to wait for it.
    """

    def __init__(self, make: Callable[[], T], keep_seconds: float, wait_seconds: float) -> None:
        self._make, self._keep, self._wait = make, keep_seconds, wait_seconds
        self._changed = threading.Condition()
        self._is_making = False
        self._answer: T | None = None
        self._made_at = -float("inf")

    def get(self) -> T | None:
        """Return an answer that is new enough; None when there was none in time."""
        asked_at = time.monotonic()
        with self._changed:
            if self._made_at > asked_at - self._keep:
                return self._answer
            if not self._is_making:
                self._is_making = True
                # A thread that hangs does not keep the process from ending.
                threading.Thread(target=self._run, name="shared answer", daemon=True).start()
            self._changed.wait_for(lambda: not self._is_making or self._made_at > asked_at, self._wait)
            # What was made since we asked is new to us, however short it is kept.
            return self._answer if self._made_at > asked_at - self._keep else None

    def _run(self) -> None:
        made: T | None = None
        try:
            made = self._make()
        except Exception:
            # It has told of what can go wrong around it; this is a mistake of ours, and not the end of the others' answers.
            log.exception("what many ask for could not be made")
        finally:
            with self._changed:
                self._is_making = False
                if made is not None:
                    self._answer, self._made_at = made, time.monotonic()
                self._changed.notify_all()
