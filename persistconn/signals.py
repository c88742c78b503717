"""Signals of a connection's checkout and checkin, for what has to happen once per unit of work.

``connection_created`` is sent once in a connection's life. These are sent each time that a unit of
work gets a connection, new or kept, and each time that one is about to go back to the pool. Both
are sent with ``sender``, the class of Django's connection, ``connection``, and ``alias``.
"""

from django.dispatch import Signal

__all__ = ["connection_checked_in", "connection_checked_out"]

#: A unit of work has got its connection. An exception goes to the code that wanted to use the
#: connection, and the connection is discarded.
connection_checked_out = Signal()

#: A unit of work ends, its transaction is rolled back, and its connection is about to be kept. An
#: exception goes where those of request_finished's receivers go, and the connection is discarded.
connection_checked_in = Signal()
