"""The wrappers that each thread has open, and that the end of its unit of work ends.

Django's registry has the same wrappers, but a look there takes longer than the rest of a checkin.
So each thread looks there once, for connections that were opened before persistconn was installed,
and again after each ``enable()``. Before Django 1.8 it looks there every time.
"""

import threading
import weakref

from persistconn import compat, lease, threads
from persistconn.django_versions import dialect
from persistconn.drivers.base import ACTIVE


class Works(threading.local):
    """The unit of work of each thread."""

    _by_ident = weakref.WeakValueDictionary()

    def __init__(self):
        self.mine = self._by_ident[compat.get_ident()] = Work()

    def of_thread(self, ident):
        """Return the Work of the thread with this ident, or None."""
        return self._by_ident.get(ident)

    def find_home(self, wrapper):
        """Return the wrappers of the owner's unit of work, or None if that thread has no Work."""
        work = self.mine
        owner = getattr(wrapper, "_thread_ident", None)  # None before 1.4: the thread that uses it
        if owner is not None and owner != work.ident:
            work = self._by_ident.get(owner)
        return None if work is None else work.wrappers


def join(wrapper, held):
    """Add a wrapper to the unit of work of the thread that owns it, whichever thread uses it.

    Return the wrappers of that unit of work.
    """
    if held.home is None or not held.is_registered:
        # Asked here, not only at the end, because a coroutine has a registry of its own.
        held.is_registered = dialect.is_registered(wrapper)
        held.home = works.find_home(wrapper)
    # An owner that has no Work yet will find the wrapper in Django's registry.
    wrappers = {} if held.home is None else held.home
    wrappers[id(wrapper)] = held.wrapper
    return wrappers


class Wrappers(dict):
    """The wrappers that a thread has open, by their ids.

    Weak references, because the connection of a wrapper that is dropped must go with it.
    """

    __slots__ = ("work",)  # a weak reference to the thread's Work


class Work(object):
    """The unit of work of one thread."""

    turns = 0  # one count for all threads: how often persistconn was switched on

    def __init__(self):
        self.ident = compat.get_ident()
        self.greenlet = compat.current_greenlet()
        self.turn = None
        self.in_orm = 0  # the depth of nested calls of the ORM
        # The ids of the wrappers that were open when this request began; None: no start was seen.
        self.outer = None
        self.request_turn = None  # the turn in which it began
        #: The arguments of request_started for the request that this thread serves, or None.
        self.request = None
        #: Weak references to the units of work (units.py) that have begun in this thread.
        self.units = []
        #: The id and the name of the Celery task that this thread runs, or None.
        self.task = None
        self.wrappers = Wrappers()
        self.wrappers.work = weakref.ref(self)
        self.witness = Witness(self.wrappers)

    def running_units(self):
        """Return the units of work that have begun in this thread and not ended."""
        units = [ref() for ref in list(self.units)]
        return [unit for unit in units if unit is not None and unit.is_running()]

    def is_in_request(self):
        """Whether a request runs in this thread. Its end is not seen while persistconn is off."""
        return self.outer is not None and self.request_turn == self.turns

    def add(self, wrapper):
        self.wrappers[id(wrapper)] = lease.of(wrapper).wrapper

    def find_open(self, account_for):
        """Return the wrappers to end. Code that made a wrapper by hand must end it itself."""
        if self.turn != self.turns or dialect.has_managed_blocks:
            for wrapper in dialect.initialised():
                known = self.wrappers.get(id(wrapper))
                if known is None or known() is not wrapper:
                    account_for(wrapper)
                    self.add(wrapper)
            self.turn = self.turns
        found = []
        # A copy, because another thread may add a wrapper of this thread at any moment.
        for key, ref in list(self.wrappers.items()):
            wrapper = ref()
            if wrapper is None:
                self.wrappers.pop(key, None)
            elif wrapper._persistconn.is_registered or dialect.is_registered(wrapper):
                found.append(wrapper)
        found.reverse()  # they are popped from the end
        return found

    def ended(self, wrapper):
        """Forget a wrapper after its end: not before, as an exception can come at any moment."""
        self.wrappers.pop(id(wrapper), None)
        if getattr(wrapper, "connection", None) is not None:
            self.add(wrapper)  # it was left open, or a signal handler has used it since


class Witness(object):
    """Dies with its thread, and then has the thread's connections closed.

    Without it the thread's wrappers would live in reference cycles until the garbage collector
    runs, with their connections, transactions and slots. The destructor only starts a thread that
    does the rest, because the code that it interrupts may hold any lock.
    """

    def __init__(self, wrappers):
        self._ident = compat.get_ident()
        self._wrappers = wrappers
        self._abandon = _abandon
        self._start = threads.start_thread

    def __del__(self):
        left = [ref() for ref in list(self._wrappers.values())]
        if left:
            # No thread starts at the interpreter's exit, which closes all connections by itself.
            self._start(self._abandon, left, self._ident)


def _abandon(wrappers, ident):
    """Close the connections that an ended thread has not given back, unless somebody uses them."""
    for wrapper in wrappers:
        if wrapper is None or not dialect.belongs_to(wrapper, ident):
            continue
        held = lease.of(wrapper)
        entry = held.take()
        if entry is None:
            continue
        wrapper.connection = None
        cursors = held.cursors.take()
        if _is_in_use(entry, cursors):
            # As in stock Django, it lives as long as a cursor that fetches from it.
            entry.pool.let_go(entry, "lost")
        else:
            entry.pool.discard(entry, "lost")


def _is_in_use(entry, cursors):
    if entry.raw is None or entry.is_inherited():
        return False
    return bool(cursors) or entry.driver.status(entry.raw) == ACTIVE


works = Works()
