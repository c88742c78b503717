"""What a forked child must not share with its parent: locks, threads, connections."""

from __future__ import absolute_import

import os


class PerProcess(object):
    """One object for each process, made by whoever asks first.

    Without a lock, which a child might inherit locked for ever: of several threads that ask first
    in a child, as uWSGI starts them, the one whose object stays is told of its parent's.
    """

    def __init__(self, make, inherit=None):
        self._make = make
        self._inherit = inherit
        self._by_pid = {}

    def get(self):
        pid = os.getpid()
        return self._by_pid.get(pid) or self._begin(pid)

    def _begin(self, pid):
        made = self._make()
        mine = self._by_pid.setdefault(pid, made)
        if mine is made:
            for other in [other for other in list(self._by_pid) if other != pid]:
                parents = self._by_pid.pop(other)
                if self._inherit is not None:
                    self._inherit(made, parents)
        return mine
