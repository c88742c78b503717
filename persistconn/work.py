"""Which wrappers the running thread has open: the end of its unit of work ends them.

Django's own registry holds the same ones, but asking it costs more than all the rest of a checkin.
It is asked once a thread, for what was opened before we came, and again whenever we were switched
on.
"""

from __future__ import absolute_import

import threading
import weakref

from persistconn import compat, lease
from persistconn.django_versions import dialect


class Works(threading.local):
    """The unit of work of each thread."""

    _by_ident = weakref.WeakValueDictionary()

    def __init__(self):
        self.mine = self._by_ident[compat.get_ident()] = Work()

    def find_home(self, wrapper):
        """Return the wrappers of its owner's unit of work, or None if the owner has none."""
        work = self.mine
        owner = getattr(wrapper, "_thread_ident", None)  # None before 1.4: whoever uses it
        if owner is not None and owner != work.ident:
            work = self._by_ident.get(owner)
        return None if work is None else work.wrappers


def join(works, wrapper, held):
    """Have a wrapper ended by its owner's unit of work, whichever thread uses it.

    Return the wrappers of that unit of work. No method, as finding one in a threading.local costs
    more than all the rest.
    """
    if held.home is None or not held.is_registered:
        # Not only at the end: what a coroutine opens is in a registry of its own.
        held.is_registered = dialect.is_registered(wrapper)
        held.home = works.find_home(wrapper)
    # An owner without a unit of work will find the wrapper in Django's registry.
    wrappers = {} if held.home is None else held.home
    wrappers[id(wrapper)] = held.wrapper
    return wrappers


class Work(object):
    """The unit of work of one thread."""

    turns = 0  # shared by all threads: how often persistconn was switched on
    abandon = None  # shared, too: what is called with wrappers whose thread ended without us

    def __init__(self):
        self.ident = compat.get_ident()
        self.turn = None
        self.in_orm = 0  # how many of the ORM's compilers are executing
        # The ids of the wrappers that were open when this request began; None: that was not seen.
        self.outer = None
        # Weak references, as a wrapper that is thrown away must take its connection along.
        self.wrappers = {}
        self.witness = Witness(self.wrappers, self.abandon)

    def add(self, wrapper):
        self.wrappers[id(wrapper)] = lease.of(wrapper).wrapper

    def find_open(self, take_over):
        """Return the wrappers to end. One made by hand stays its maker's."""
        if self.turn != self.turns or dialect.has_managed_blocks:
            for wrapper in dialect.initialised():
                known = self.wrappers.get(id(wrapper))
                if known is None or known() is not wrapper:
                    take_over(wrapper)
                    self.add(wrapper)
            self.turn = self.turns
        found = []
        # A copy, as another thread may add one of ours at any moment.
        for key, ref in list(self.wrappers.items()):
            wrapper = ref()
            if wrapper is None:
                self.wrappers.pop(key, None)
            elif wrapper._persistconn.is_registered or dialect.is_registered(wrapper):
                found.append(wrapper)
        return found

    def ended(self, wrapper):
        """Forget a wrapper: after its end, as an exception can come at any moment before."""
        self.wrappers.pop(id(wrapper), None)
        # It was left open, or a signal handler has used it since.
        if getattr(wrapper, "connection", None) is not None:
            self.add(wrapper)


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
        left = [ref() for ref in list(self._wrappers.values())]
        if left:
            # At the exit none starts, and everything is closed by the exit itself.
            self._start(self._abandon, left, self._ident)
