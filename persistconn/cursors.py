"""The cursors of one unit of work, to be closed at its end."""

import weakref

#: Dead references are removed when there are more references than this. The next removal comes at
#: twice the number of the remaining references, plus this.
CROWD = 50

#: The greatest number of cursor classes to remember. Some programs make classes at run time.
CLASSES = 50

# Classes of cursors that wrap no other cursor.
_innermost = set()


class Cursors(object):
    """The cursors that a unit of work has made, by weak references.

    A server-side (named) cursor has a strong reference until it is closed: the garbage collector
    clears weak references before it ends the generator of an iterator(), which closes its cursor.
    """

    __slots__ = "known named _crowd".split()

    def __init__(self):
        self.known = set()  # weak references; some may be dead
        self.named = []
        self._crowd = CROWD

    def add(self, cursor, is_named):
        # Django wraps the driver's cursor once or twice.
        while cursor.__class__ not in _innermost:
            inner = getattr(cursor, "cursor", None)
            if inner is None:
                if len(_innermost) < CLASSES:
                    _innermost.add(cursor.__class__)
                break
            cursor = inner
        if is_named:
            self.named[:] = _open(self.named) + [cursor]
            return
        known = self.known
        try:
            known.add(weakref.ref(cursor))
        except TypeError:
            return  # the driver's cursors cannot be referenced weakly
        if len(known) > self._crowd:
            known.difference_update([ref for ref in list(known) if ref() is None])
            self._crowd = 2 * len(known) + CROWD

    def has_open(self):
        """Whether a cursor is still open."""
        cursors = [ref() for ref in list(self.known)]
        return bool(_open(cursor for cursor in cursors if cursor is not None) or _open(self.named))

    def take(self):
        """Return the cursors that are still open, and forget all cursors."""
        found = []
        for ref in list(self.known):
            cursor = ref()
            if cursor is not None and _is_open(cursor):
                found.append(cursor)
        if self.named:
            found += _open(self.named)
            del self.named[:]
        self.known.clear()
        self._crowd = CROWD
        return found


def _open(cursors):
    return [cursor for cursor in cursors if _is_open(cursor)]


def _is_open(cursor):
    # PEP 249 has no name for it. A closed cursor of MySQL's drivers has lost its connection.
    return (
        not getattr(cursor, "closed", False) and getattr(cursor, "connection", cursor) is not None
    )
