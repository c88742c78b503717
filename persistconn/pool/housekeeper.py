"""The thread that closes idle connections in time."""

from __future__ import absolute_import

import os
import time

from persistconn import compat, threads

#: Seconds between two looks of the housekeeper: an idle connection outlives its time by so much.
INTERVAL = 1


class Housekeeper(object):
    """A thread that closes idle connections older than MAX_AGE or idle for MAX_IDLE, also without
    traffic. It runs only while something is idle.
    """

    def __init__(self, pools):
        self._pools = pools
        self._role = [self]  # popped by the one thread that runs, whoever started it
        self._next_start = 0
        self.is_running = False

    def start(self):
        """Have the thread run, soon."""
        now = compat.monotonic()
        # Once an interval at the most: one that was just started says that it runs only when it does,
        # and one whose start an exception has interrupted never will.
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
            # A connection may have become idle before that was said.
            if os.getpid() != pid or not self._pools.expire():
                return

    def _watch(self, pid):
        is_needed = True
        while threads.alive and is_needed:
            time.sleep(INTERVAL)
            # A greenlet can live on in a process that was forked from this one.
            is_needed = os.getpid() == pid and self._pools.expire()

    def _take_role(self):
        try:
            self._role.pop()
        except IndexError:
            return False
        self.is_running = True
        return True
