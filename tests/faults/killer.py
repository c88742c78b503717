"""Terminates sessions, and knows which of them were in use at that moment."""

from __future__ import absolute_import

import random
import time

import scenarios
from support import wait_until

#: At most so many seconds pass from the order to end a session to its end, on a quiet machine.
WINDOW = 0.005
#: Seconds to wait for a session to terminate.
PATIENCE = 20


class Killer(object):
    def __init__(self, cluster):
        self._cluster = cluster
        self._kills = {}

    def terminate(self, times, condition):
        """Terminate ``times`` sessions, one after the other. Return how many were found."""
        done = 0
        for _ in scenarios.repeat(times):
            done += wait_until(lambda: self.terminate_one(condition), PATIENCE)
        return done

    def terminate_at_random(self, times, pause):
        """Terminate ``times`` sessions at moments that are ``pause`` seconds apart on average.

        Return how many were found. At a moment without a session none is waited for, since that
        session would be terminated while it is being opened.
        """
        done, end = 0, time.time() + 2 * times * pause + PATIENCE
        while done < times and time.time() < end:
            time.sleep(random.uniform(0, 2 * pause))
            done += self.terminate_one(self._cluster.ANY)
        return done

    def terminate_one(self, condition):
        """Terminate a session, if there is one. Return whether there was."""
        asked = time.time()
        terminated = self._cluster.terminate_one(condition)
        if terminated is None:
            return False
        pid, ordered = terminated
        self._note(pid, asked, ordered)
        return True

    def _note(self, pid, asked, ordered):
        returned = time.time()
        wait_until(lambda: self._cluster.has_ended(pid), 2)
        self._kills[pid] = (asked, ordered, returned, time.time())

    def of(self, unit):
        """When the unit's session was terminated, in seconds from the unit's beginning."""
        return [round(at - unit.began, 4) for at in self._kills.get(unit.pid, ())]

    def hit_in_window(self, unit):
        """Whether the unit checked its session before the session had ended, or hardly later."""
        if unit.pid not in self._kills:
            return False
        asked, _, returned, gone = self._kills[unit.pid]
        return unit.checked <= max(returned + WINDOW, gone) and asked <= unit.ended

    hit_in_use = hit_in_window

    def hit_before_statement(self, unit):
        """Whether the unit's session was idle when the server was told to end it."""
        return self._kills[unit.pid][1] < (unit.sent or unit.ended)
