"""How threads go on trying to reach a server that is away. Knows neither Django nor a driver."""

from __future__ import absolute_import

import logging
import random
import threading
import time

from persistconn import compat

logger = logging.getLogger("persistconn")

#: Seconds between two tries: after the first, and at the most; each up to half shorter, at random.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25


class Gate(object):
    """The way to one server, for all threads of this process.

    As long as nothing is wrong everybody passes. After a failure one thread tries at a time, at a
    pace that belongs to the gate, and the others wait for what becomes of it.
    """

    def __init__(self):
        self._changed = threading.Condition()
        self._failure = None  # what the last try met, until one gets an answer
        self._is_trying = False
        self._pause = FIRST_PAUSE
        self._next_at = 0

    def pass_through(self, attempt, is_passing, seconds):
        """Return what ``attempt(seconds left)`` does, which is tried again for so many seconds.

        Raises at once what it raises, unless ``is_passing(error)``: then when the time is over. With
        0 seconds it is one try, which does not wait for those of others.
        """
        ends_at = compat.monotonic() + seconds
        is_mine, passed = False, False
        try:
            while not passed:
                is_mine = is_mine or seconds > 0 and self._wait_for_turn(ends_at)
                if is_mine:
                    time.sleep(max(0, self._next_at - compat.monotonic()))
                passed, result = self._try(attempt, is_passing, ends_at, is_mine)
        finally:
            if is_mine:
                self._leave()
        return result

    def _wait_for_turn(self, ends_at):
        """Return whether the caller is now the one who tries: not if nothing is wrong (any more).

        Raises the failure of whoever tried, once the caller's time is over.
        """
        with self._changed:
            while self._failure is not None:
                now = compat.monotonic()
                if not self._is_trying and max(self._next_at, now) < ends_at:
                    self._is_trying = True
                    return True
                if now >= ends_at:
                    raise self._failure.__class__(*self._failure.args)
                self._changed.wait(ends_at - now)
            return False

    def _try(self, attempt, is_passing, ends_at, is_mine):
        began = compat.monotonic()
        try:
            result = attempt(ends_at - began)
        except Exception as error:
            if not is_passing(error):
                self._open()
                raise
            self._close(error, is_mine)
            # The next try is not begun if it may take as long as this one, and that is too long.
            if self._next_at + (compat.monotonic() - began) >= ends_at:
                raise
            return False, None
        self._open()
        return True, result

    def _close(self, failure, is_mine):
        with self._changed:
            # Those who tried at the same time met the same, and are no reason to go slower.
            if is_mine or self._failure is None:
                self._next_at = compat.monotonic() + self._pause * random.uniform(0.5, 1)
                self._pause = min(2 * self._pause, LONGEST_PAUSE)
            if self._failure is None:
                logger.warning("The server cannot be reached: %s", failure)
            self._failure = failure

    def _open(self):
        if self._failure is not None:
            with self._changed:
                self._failure = None
                self._pause = FIRST_PAUSE
                self._changed.notify_all()

    def _leave(self):
        with self._changed:
            self._is_trying = False
            self._changed.notify_all()
