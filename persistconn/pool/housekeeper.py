"""The background thread that closes expired idle connections, and has more chores."""

import os
import time

from persistconn import compat, threads

#: Seconds between two rounds: an idle connection may outlive its limit by this much.
INTERVAL = 1

#: A short MAX_AGE has as many rounds, but none that is shorter than this.
ROUNDS, SHORTEST = 8, 0.05

#: Functions that the housekeeper calls in each round. Each returns whether it needs another round.
chores = []


def interval(max_age):
    """Return the seconds between two rounds that suit a MAX_AGE, or None."""
    return INTERVAL if max_age is None else max(SHORTEST, min(INTERVAL, float(max_age) / ROUNDS))


class Housekeeper(object):
    """Closes idle connections older than MAX_AGE or idle for MAX_IDLE, even without traffic.

    Its thread runs only while an idle connection can expire, another one must be opened
    (spares.py), or a chore needs another round.
    """

    def __init__(self, pools):
        self._pools = pools
        self._role = [self]  # the running thread pops it, so that only one runs
        self._next_start = 0
        self.is_running = False

    def start(self):
        """Start the thread."""
        now = compat.monotonic()
        # At most once per interval: a new thread sets is_running only when it runs, and never if an
        # exception has interrupted its start.
        if now >= self._next_start:
            self._next_start = now + INTERVAL
            threads.start_named_thread("persistconn housekeeper", self._run)

    def _run(self):
        pid = os.getpid()
        while threads.alive and self._take_role():
            try:
                self._watch(pid)
            finally:
                self.is_running, self._next_start = False, 0
                self._role.append(self)
            # A connection released just before is_running became false has started no thread.
            if os.getpid() != pid or not self._make_round():
                return

    def _watch(self, pid):
        is_needed = True
        self._pools.replenish()
        while threads.alive and is_needed:
            time.sleep(min([INTERVAL] + [interval(p.values.max_age) for p in self._pools.all()]))
            # Under gevent this greenlet also lives on in a forked child, and must end there.
            is_needed = os.getpid() == pid and self._make_round()

    def _make_round(self):
        """Do all chores. Return whether any of them needs another round."""
        left = [self._pools.replenish(), self._pools.expire()]
        return any(left + [chore() for chore in chores])

    def _take_role(self):
        try:
            self._role.pop()
        except IndexError:
            return False
        self.is_running = True
        return True
