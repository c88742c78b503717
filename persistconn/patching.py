"""Applies patches, all or none, and undoes them exactly. Knows neither Django nor databases.

Each patch replaces one object and returns a function that restores the original. That function
returns False, and changes nothing, if another library has patched the replacement since. Patches
remember their originals. Other libraries restore ``__wrapped__`` instead, which leaves inherited
methods pinned to the subclass.
"""

import functools
import logging
import sys
from collections import namedtuple
from importlib import import_module

import wrapt

from persistconn import receivers

logger = logging.getLogger("persistconn")


class Wrap(namedtuple("Wrap", "djangos module attribute wrapper why")):
    """Redirect calls of a function to ``wrapper(wrapped, instance, args, kwargs)``, by wrapt."""

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
    """Replace a function by the plain function that ``wrapper(original, switch)`` returns.

    The plain function itself must pass calls through while ``switch.is_on`` is false. A call takes
    a microsecond less than by wrapt. This matters where every request or cursor makes one.
    """

    def replacement(self, original, switch):
        ours = functools.wraps(original)(self.wrapper(original, switch))
        ours.__wrapped__ = original  # Python 2's wraps() does not set it
        return ours


class Preceded(object):
    """A method, and a function that is called with the instance whenever the method is looked up.

    So there is no frame between the method and its caller, whose place the method's warnings name.
    """

    def __init__(self, method, function):
        self._method, self._function = method, function

    def __get__(self, instance, owner):
        if instance is not None:
            self._function(instance)
        return self._method.__get__(instance, owner)


class OptionalWrap(HotWrap):
    """A HotWrap that does nothing where its module cannot be imported."""

    def apply(self, switch):
        try:
            import_module(self.module)
        except Exception as error:
            logger.debug("%s.%s is not patched: %s", self.module, self.attribute, error)
            return lambda: True
        return HotWrap.apply(self, switch)


class LaterWrap(OptionalWrap):
    """An OptionalWrap of a module that may be imported later, or never.

    The patch waits for the import. If a release of that module has no such attribute, the patch
    logs a warning and leaves the module as it is.
    """

    _replacements = {}

    def apply(self, switch):
        later = _Later(functools.partial(self._apply_now, switch))
        wrapt.register_post_import_hook(later.begin, self.module)
        return later.undo

    def _apply_now(self, switch):
        try:
            return HotWrap.apply(self, switch)
        except AttributeError as error:
            logger.warning("%s.%s is not patched: %s", self.module, self.attribute, error)
            return lambda: True

    def replacement(self, original, switch):
        # Stays alive after undo(): signals may have a weak reference to it and to nothing else.
        key = self, original, switch
        if key not in self._replacements:
            self._replacements[key] = OptionalWrap.replacement(self, original, switch)
        return self._replacements[key]


class _Later(object):
    """Applies a patch when its module is imported, unless it has been undone before.

    A post-import hook cannot be taken back.
    """

    def __init__(self, apply):
        self._apply = apply
        self._is_wanted = True
        self._undo = None

    def begin(self, module):
        if self._is_wanted:
            self._undo = self._apply()
            if not self._is_wanted:
                self.undo()  # another thread has called undo() meanwhile

    def undo(self):
        self._is_wanted = False
        if self._undo is not None and not self._undo():
            return False
        self._undo = None
        return True


class Replacement(OptionalWrap):
    """Replace an object that is not a function by the result of ``wrapper(original)``."""

    def replacement(self, original, switch):
        return self.wrapper(original)


class Import(namedtuple("Import", "djangos module source attribute why")):
    """Replace a name that a module imported from ``source`` before the patch of ``source``."""

    def apply(self, switch):
        ours = getattr(import_module(self.source), self.attribute)
        if self.module in sys.modules:
            setattr(sys.modules[self.module], self.attribute, ours)

        def undo():
            # The module may have been imported after apply().
            module = sys.modules.get(self.module)
            if getattr(module, self.attribute, None) is ours:
                setattr(module, self.attribute, ours.__wrapped__)
            return True

        return undo


class Receiver(namedtuple("Receiver", "djangos module signal source attribute why")):
    """Connect a patched function to a signal, at the original function's place in the order."""

    def apply(self, switch):
        signal = getattr(import_module(self.module), self.signal)
        ours = getattr(import_module(self.source), self.attribute)
        # A project may have disconnected the original, which is the oldest way to keep connections.
        was_connected = receivers.is_connected(signal, ours.__wrapped__)
        signal.connect(ours)
        if was_connected:
            receivers.move(signal, ours, instead_of=ours.__wrapped__)

        def undo():
            if was_connected and receivers.is_connected(signal, ours):
                signal.connect(ours.__wrapped__)
                receivers.move(signal, ours.__wrapped__, instead_of=ours)
            else:
                signal.disconnect(ours)
            return True

        return undo


class Listener(namedtuple("Listener", "djangos module signal receiver why")):
    """Connect one more receiver to a signal, before all others."""

    def apply(self, switch):
        signal = getattr(import_module(self.module), self.signal)

        def ours(**kwargs):
            if switch.is_on:
                self.receiver(**kwargs)

        signal.connect(ours, weak=False)
        receivers.move(signal, ours)

        def undo():
            signal.disconnect(ours)
            return True

        return undo


class Switch(object):
    """Tells wrappers whether to pass calls through.

    Separate from Patcher, so that wrappers do not keep Django's signals alive until interpreter
    exit, which fails on Python 2.
    """

    is_on = False


class Patcher(object):
    """Applies and undoes patches. All wrappers pass calls through while the switch is off."""

    def __init__(self, rows):
        self.rows = rows
        self.switch = Switch()
        self.applied = False
        self._undo = {}

    def apply(self):
        """Apply the patches that are not applied yet. If one fails, undo them and raise."""
        new = [row for row in self.rows if row not in self._undo]
        try:
            for row in new:
                self._undo[row] = row.apply(self.switch)
        except Exception:
            self._undo_rows([row for row in new if row in self._undo])
            raise
        self.applied = True

    def undo(self):
        """Restore the originals.

        If another library has patched a replacement since, that replacement stays, passes calls
        through, and is logged.
        """
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


# Tuples of methods for which are_djangos() was true.
_djangos = set()


def are_djangos(*methods):
    """Whether all methods are Django's own, or persistconn's replacements of them."""
    if methods not in _djangos:
        if not all(_module(method) in ("django", "persistconn") for method in methods):
            return False
        _djangos.add(methods)
    return True


def _module(method):
    function = getattr(method, "__func__", method)  # Python 2 has unbound methods
    return getattr(function, "__globals__", {}).get("__name__", "").partition(".")[0]
