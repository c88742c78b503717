"""The state of an open circuit: the outage, the calls that wait, and the prober's turn."""

import random
import weakref

from persistconn import compat
from persistconn.connecting.error_copies import copy_of

#: Seconds between two tries: the first pause, which doubles, and the longest. Random jitter makes
#: each up to half shorter.
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.25

#: Seconds that a try may exceed its limit before another thread takes over: timeouts are rounded.
GRACE = 1

NEXT = "next"


def nobody():
    """Stands in for a weak reference to a call that is gone."""


class Outage(object):
    """An open circuit, from the transient error that opens it to the answer that closes it."""

    def __init__(self, error, took):
        self._pause = FIRST_PAUSE
        self._turn = Turn(nobody, 0)  # a turn that is over
        self.failed(error, took)

    def failed(self, error, took):
        """Note a failed try of ``took`` seconds. Keep a copy of its error, without its frames."""
        self.error, self._took = copy_of(error), took
        self.next_at = compat.monotonic() + self._pause * random.uniform(0.5, 1)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def allows(self, call):
        """Whether the call has time for another try."""
        begins_at = max(compat.monotonic(), self.next_at)
        if not call.is_fresh:
            # Stop if another try this slow would overrun the deadline.
            begins_at += min(self._took, call.attempt.least)
        return begins_at < call.waits_until

    def last_turn(self):
        turn = self._turn
        while turn.successor:
            turn = turn.successor[NEXT]
        self._turn = turn
        return turn

    def error_for_another_thread(self):
        """Return a copy of the last try's error, with that error as its cause if it had none."""
        error = copy_of(self.error)
        if getattr(error, "__cause__", error) is None:
            error.__cause__ = copy_of(self.error)
        return error


class Turn(object):
    """The right of one call to be the prober, until its try ends, the call ends or time is up."""

    def __init__(self, call, seconds):
        self._call = call  # a weak reference
        self.began_at = compat.monotonic()
        self._ends_at = self.began_at + seconds + GRACE
        self.successor = {}  # NEXT: the turn after this one

    def is_over(self):
        call = self._call()
        if call is None or call.is_over or call.turn is not self:
            return True
        return compat.monotonic() >= self._ends_at

    def pass_on(self, call, seconds):
        """Give ``call`` the next turn, for ``seconds``. Return False if another call was faster."""
        call.turn = Turn(weakref.ref(call), seconds)
        return self.successor.setdefault(NEXT, call.turn) is call.turn


class Call(object):
    """One thread's Gate.call(). Others refer to it weakly, so that its turn ends with its frame."""

    def __init__(self, attempt, outer=None):
        self.attempt = attempt
        self.began_at = compat.monotonic()
        # A nested call of the same thread (by a signal handler, a receiver, a logging handler)
        # cannot wait for the outer call: it tries once during the outer's try, never between two.
        self.is_single = attempt.seconds == 0 or outer is not None and outer.is_trying
        self.waits_until = self.began_at + attempt.seconds if outer is None else 0
        self.turn = None
        self.is_fresh = True  # has neither tried nor waited
        self.is_trying = self.is_over = False

    def limit(self, now):
        """Return how many seconds a try that begins at ``now`` may take."""
        attempt = self.attempt
        left = self.began_at + attempt.seconds - now
        return min(attempt.try_limit, left) if attempt.is_strict else attempt.try_limit

    def may_wait_for(self, turn):
        if compat.monotonic() < self.waits_until:
            return True
        is_under_way = turn.began_at < self.waits_until and not turn.is_over()
        return is_under_way and not self.attempt.is_strict
