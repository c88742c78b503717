"""Which wrappers the running thread has open: what the end of its work has to see to.

Django's own registry holds the same, except for wrappers that are in no settings; but asking it
costs more than all the rest of a checkin. It is asked once a thread, for what was opened before
we came, and again whenever we were switched on.
"""

from __future__ import absolute_import

import threading
import weakref

from persistconn import compat
from persistconn.django_versions import dialect


class Works(threading.local):
    """The unit of work of each thread."""

    def __init__(self):
        self.mine = Work()


class Work(object):
    """The unit of work of one thread."""

    turns = 0  # shared by all threads: how often persistconn was switched on
    abandon = None  # shared, too: what is called with wrappers whose thread ended without us

    def __init__(self):
        self.turn = None
        # The ids of the wrappers that were open when this request began; None: that was not seen.
        self.outer = None
        # Weak references, as a wrapper that is thrown away must take its connection along.
        self.wrappers = {}
        self.witness = Witness(self.wrappers, self.abandon)

    def add(self, wrapper):
        self.wrappers[id(wrapper)] = weakref.ref(wrapper)

    def take_wrappers(self, take_over):
        """Return the wrappers to end, None for one that is gone, and begin anew."""
        if self.turn != self.turns or dialect.has_managed_blocks:
            self.turn = self.turns
            for wrapper in dialect.initialised():
                take_over(wrapper)
                self.add(wrapper)
        taken = [ref() for ref in self.wrappers.values()]
        self.wrappers.clear()
        return taken


class Witness(object):
    """Dies with its thread.

    The wrappers of the thread live on in reference cycles until the garbage collector comes, and
    their connections, transactions and slots with them. A destructor must do nothing but queue,
    as whoever is interrupted by it may hold any lock; so it starts a thread that does the rest.
    """

    def __init__(self, wrappers, abandon):
        self._ident = compat.get_ident()
        self._wrappers = wrappers
        self._abandon = abandon
        self._start = compat.start_thread

    def __del__(self):
        left = [ref() for ref in self._wrappers.values()]
        if left:
            # At the exit none starts, and everything is closed by the exit itself.
            self._start(self._abandon, left, self._ident)
