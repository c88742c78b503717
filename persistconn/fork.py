"""Objects that a forked child must not share with its parent: locks, threads, connections."""

import os


class PerProcess(object):
    """Holds one object for each process, made at the first ``get()``.

    There is no lock, because a child might inherit it locked for ever. If several threads of a
    child call ``get()`` at once, as under uWSGI, only one object stays. ``inherit`` is called with
    that object and the parent's.
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
