"""Timeouts for connecting: the user's and ours, and how many addresses share one."""

import socket


def seconds_of(theirs):
    """Return a user's timeout in whole seconds; 0: no limit; None: the driver will refuse it."""
    try:
        return max(0, int(theirs or 0))
    except (TypeError, ValueError):
        return None


def capped_timeout(theirs, seconds):
    """Return the shorter of a user's timeout and ours, in whole seconds.

    A timeout of the user's that the driver will refuse is returned as it is.
    """
    # Round down, but allow for the moment that has passed since the deadline was set.
    ours = max(1, int(seconds + 0.05))
    given = seconds_of(theirs)
    if given is None:
        return theirs
    return min(given, ours) if given else ours


def count_addresses(hosts):
    """Return how many addresses a driver may try for ``hosts``: a name can have several."""
    return sum(_count_addresses(host) for host in hosts)


def _count_addresses(host):
    if not host or host[0] in "/@":  # a unix socket
        return 1
    try:
        found = socket.getaddrinfo(host, None, 0, socket.SOCK_STREAM)
    except (OSError, socket.error, UnicodeError):
        return 1
    return len(set(address for family, kind, protocol, name, address in found))
