"""Applies rows of patches, all or none, and undoes them exactly. Knows neither Django nor databases.

Each row puts something in the place of something else and returns how to undo that: a function
that is true when all is as before, false when somebody else has patched over ours since. Undoing
goes by what is remembered: going by ``__wrapped__``, as is the custom, leaves inherited methods
pinned to the subclass.
"""

from __future__ import absolute_import

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
    """Have a signal received by what a patched source has now, not by what it had before."""

    def apply(self, switch):
        signal = getattr(import_module(self.module), self.signal)
        ours = getattr(import_module(self.source), self.attribute)
        before = len(signal.receivers)
        signal.disconnect(ours.__wrapped__)
        # Somebody may have disconnected it by hand, which is the oldest way to keep connections.
        was_connected = len(signal.receivers) < before
        signal.connect(ours)

        def undo():
            signal.disconnect(ours)
            if was_connected:
                signal.connect(ours.__wrapped__)
            return True

        return undo


class Listener(namedtuple("Listener", "module signal receiver why")):
    """Have a signal received by a function of ours as well."""

    def apply(self, switch):
        signal = getattr(import_module(self.module), self.signal)

        def ours(**kwargs):
            if switch.is_on:
                self.receiver(**kwargs)

        signal.connect(ours, weak=False)

        def undo():
            signal.disconnect(ours)
            return True

        return undo


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
