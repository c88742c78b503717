"""Applies rows of patches, all or none, and undoes them exactly. Knows neither Django nor databases.

Each row puts something in the place of something else and returns how to undo that: a function
that is true when all is as before, false when somebody else has patched over ours since. Undoing
goes by what is remembered: going by ``__wrapped__``, as is the custom, leaves inherited methods
pinned to the subclass.
"""

from __future__ import absolute_import

import copy
import functools
import logging
import sys
from collections import namedtuple
from importlib import import_module

import wrapt

logger = logging.getLogger("persistconn")


class Wrap(namedtuple("Wrap", "module attribute wrapper why")):
    """Have calls of an attribute go to ``wrapper(wrapped, instance, args, kwargs)``."""

    def apply(self, switch):
        parent, name, original = wrapt.resolve_path(self.module, self.attribute)
        inherited = name not in vars(parent)
        ours = self.replacement(original, switch)
        setattr(parent, name, ours)

        def undo():
            if vars(parent).get(name) is not ours:
                return False
            if inherited:
                delattr(parent, name)
            else:
                setattr(parent, name, original)
            return True

        return undo

    def replacement(self, original, switch):
        return wrapt.FunctionWrapper(original, self.wrapper, lambda: switch.is_on)


class HotWrap(Wrap):
    """Put the plain function in its place that ``wrapper(original, switch)`` makes.

    It passes calls through itself while ``switch.is_on`` is false. It costs a microsecond less a
    call than wrapt's: that is worth it for what every request and every cursor calls.
    """

    def replacement(self, original, switch):
        ours = functools.wraps(original)(self.wrapper(original, switch))
        ours.__wrapped__ = original  # which Python 2 does not do
        return ours


class OptionalWrap(HotWrap):
    """The same for a module that cannot be imported everywhere: there it has nothing to patch."""

    def apply(self, switch):
        try:
            import_module(self.module)
        except Exception as error:
            logger.debug("%s.%s is not patched: %s", self.module, self.attribute, error)
            return lambda: True
        return HotWrap.apply(self, switch)


class Replacement(OptionalWrap):
    """Put what ``wrapper(original)`` makes in the place of something that is no function."""

    def replacement(self, original, switch):
        return self.wrapper(original)


class Import(namedtuple("Import", "module source attribute why")):
    """Have a module that imported a name from a patched source use what the source has now."""

    def apply(self, switch):
        ours = getattr(import_module(self.source), self.attribute)
        if self.module in sys.modules:
            setattr(sys.modules[self.module], self.attribute, ours)

        def undo():
            # The module may have been imported only since.
            module = sys.modules.get(self.module)
            if getattr(module, self.attribute, None) is ours:
                setattr(module, self.attribute, ours.__wrapped__)
            return True

        return undo


class Receiver(namedtuple("Receiver", "module signal source attribute why")):
    """Have a signal received by what a patched source has now, in the place of what it had before."""

    def apply(self, switch):
        signal = getattr(import_module(self.module), self.signal)
        ours = getattr(import_module(self.source), self.attribute)
        # Somebody may have disconnected it by hand, which is the oldest way to keep connections.
        was_connected = _is_connected(signal, ours.__wrapped__)
        signal.connect(ours)
        if was_connected:
            _move(signal, ours, instead_of=ours.__wrapped__)

        def undo():
            if was_connected and _is_connected(signal, ours):
                signal.connect(ours.__wrapped__)
                _move(signal, ours.__wrapped__, instead_of=ours)
            else:
                signal.disconnect(ours)
            return True

        return undo


class Listener(namedtuple("Listener", "module signal receiver why")):
    """Have a signal received by a function of ours as well, before all others."""

    def apply(self, switch):
        signal = getattr(import_module(self.module), self.signal)

        def ours(**kwargs):
            if switch.is_on:
                self.receiver(**kwargs)

        signal.connect(ours, weak=False)
        _move(signal, ours)

        def undo():
            signal.disconnect(ours)
            return True

        return undo


# Entries of ``signal.receivers`` differ from Django to Django. So they are only moved as they are, and
# connect() and disconnect() tell which one is whose.


def _is_connected(signal, receiver):
    return bool(_take_out(_copy(signal), receiver)[1])


def _move(signal, receiver, instead_of=None):
    """Put a connected receiver in the place of another one, which is disconnected, or first."""
    # Since 1.6 a signal can cache who receives it.
    clear_cache = getattr(signal, "sender_receivers_cache", {}).clear
    is_done = False
    while not is_done:
        before = list(signal.receivers)
        after = _moved(signal, receiver, instead_of)
        # Under the lock nothing is allocated: before 1.7 a garbage collection may wait for the lock.
        with signal.lock:
            is_done = signal.receivers == before
            if is_done:
                # Another list, because other threads may be iterating over this one.
                signal.receivers = after
                clear_cache()


def _moved(signal, receiver, instead_of):
    moved, index = _copy(signal), 0
    _, entries = _take_out(moved, receiver)
    if instead_of is not None:
        index, _ = _take_out(moved, instead_of)
    return moved.receivers[:index] + entries + moved.receivers[index:]


def _copy(signal):
    """Return a signal that shares no list with this one, to take receivers out of."""
    copied = copy.copy(signal)
    copied.receivers, copied.sender_receivers_cache = list(signal.receivers), {}
    # Each disconnect() drops the entries of dead receivers as well.
    copied.disconnect(None)
    return copied


def _take_out(signal, receiver):
    """Disconnect a receiver. Return its index and its entry in a list: the end and [] if it had none."""
    before = list(signal.receivers)
    signal.disconnect(receiver)
    after = signal.receivers
    index = next((i for i, entry in enumerate(after) if entry is not before[i]), len(after))
    return index, before[index : index + len(before) - len(after)]


class Switch(object):
    """What wrappers ask whether to pass calls through. Not the Patcher: by its rows' signals it would
    keep Django's alive at the exit of Python 2, to be told of receivers when its modules are gone.
    """

    is_on = False


class Patcher(object):
    """Applies and undoes rows. All wrappers pass calls through while the switch is not on."""

    def __init__(self, rows):
        self.rows = rows
        self.switch = Switch()
        self.applied = False
        self._undo = {}

    def apply(self):
        """Apply the rows that are not in force. If one fails, none of them is, and it raises."""
        new = [row for row in self.rows if row not in self._undo]
        try:
            for row in new:
                self._undo[row] = row.apply(self.switch)
        except Exception:
            self._undo_rows([row for row in new if row in self._undo])
            raise
        self.applied = True

    def undo(self):
        """Undo the rows. One that was patched over stays, passes calls through, and is logged."""
        self._undo_rows([row for row in self.rows if row in self._undo])
        self.applied = False

    def _undo_rows(self, rows):
        for row in reversed(rows):
            if self._undo[row]():
                del self._undo[row]
            else:
                logger.warning(
                    "%s.%s has been patched by somebody else since; persistconn's own patch stays"
                    " in place and does nothing",
                    row.module,
                    row.attribute,
                )


# Methods that were looked at together, and are all Django's own or what we have put in their place.
_djangos = set()


def are_djangos(*methods):
    if methods not in _djangos:
        if not all(_module(method) in ("django", "persistconn") for method in methods):
            return False
        _djangos.add(methods)
    return True


def _module(method):
    function = getattr(method, "__func__", method)  # Python 2 has unbound methods
    return getattr(function, "__globals__", {}).get("__name__", "").partition(".")[0]
