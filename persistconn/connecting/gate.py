"""A circuit breaker with one prober, through which the threads of a process connect to a server.

While the circuit is closed, all threads connect at once. A transient error opens the circuit: then
one thread at a time, the prober, tries again, with pauses set by the circuit, and the other threads
wait for the result. A try that the server answers closes the circuit.

There are no locks. Each change of state is one operation that the interpreter does not interrupt,
so an exception or a signal handler may come at any point; waiters poll. This module is independent
of Django and of any driver.
"""

import logging
import random
import time
import weakref

from persistconn import compat
from persistconn.connecting.error_copies import causes
from persistconn.connecting.outage import Call, Outage, nobody

logger = logging.getLogger("persistconn")

#: Seconds that a waiter sleeps between two polls, at random, so that not all wake at once.
SHORTEST_SLEEP, LONGEST_SLEEP = 0.01, 0.04

OPEN = "open"


class Gate(object):
    """The circuit breaker of one pool, shared by all threads of a process."""

    def __init__(self):
        self._outages = {}  # OPEN: the Outage, while the circuit is open
        self._calls = {}  # by thread: a weak reference to its outermost Call

    def call(self, attempt):
        """Call ``attempt(seconds)``, one try of at most ``seconds``, until it returns a result.

        A transient error, by ``attempt.is_transient(error)``, is raised only when no new try may
        begin; any other error is raised at once. A call that may not try raises a copy of the last
        try's error. An attempt also has these attributes (times in seconds):

        - seconds: how long new tries may begin; 0: one try, which waits for no other thread.
        - try_limit: the longest time that a try may take.
        - is_strict: whether ``seconds`` also limits a running try, and the wait for the prober.
        - least: the shortest time that a try takes if the server does not answer.
        - was_answered: whether the server answered the last try.
        """
        ident = compat.get_ident()
        outer = self._calls.get(ident, nobody)()
        if outer is not None and not outer.is_over:
            return self._run(Call(attempt, outer))
        call = Call(attempt)
        self._calls[ident] = weakref.ref(call)
        try:
            return self._run(call)
        finally:
            call.is_over = True
            self._calls.pop(ident, None)

    def is_open(self):
        """Whether the server cannot be reached, as far as is known."""
        return OPEN in self._outages

    def _run(self, call):
        while True:
            self._wait_for_turn(call)
            began_at = compat.monotonic()
            call.is_trying = True
            try:
                result = call.attempt(call.limit(began_at))
            except Exception as error:
                call.is_trying = call.is_fresh = False
                if not self._may_try_again(call, error, compat.monotonic() - began_at):
                    raise
                call.turn = None
            else:
                self._outages.pop(OPEN, None)
                return result

    def _may_try_again(self, call, error, took):
        if not call.attempt.is_transient(error):
            if call.attempt.was_answered:
                self._outages.pop(OPEN, None)
            return False
        new = Outage(error, took)
        outage = self._outages.setdefault(OPEN, new)
        if outage is new:
            self._log(outage.error)
        elif call.turn is not None:
            # Only the prober lengthens the pause: a thread that tried at the same time met the same
            # failure.
            outage.failed(error, took)
        return outage.allows(call)

    def _wait_for_turn(self, call):
        """Return when the call may try. Raise a copy of the last error if it must stop waiting."""
        while True:
            outage = self._outages.get(OPEN)
            if outage is None or call.is_single:
                return
            turn = outage.last_turn()
            if turn.is_over() and outage.allows(call):
                pause = max(0, outage.next_at - compat.monotonic())
                if turn.pass_on(call, pause + call.limit(outage.next_at)):
                    time.sleep(pause)
                    return
            elif call.may_wait_for(turn):
                call.is_fresh = False
                time.sleep(random.uniform(SHORTEST_SLEEP, LONGEST_SLEEP))
            else:
                raise outage.error_for_another_thread()

    def _log(self, error):
        try:
            logger.warning("The server cannot be reached: %s", error)
        except Exception as other:
            # A logging handler that writes to this very database fails with the same error.
            if not any(isinstance(cause, error.__class__) for cause in causes(other)):
                raise
