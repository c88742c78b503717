"""The configuration that gunicorn reads before all else."""

from __future__ import absolute_import

import os

if "SERVERS_GEVENT" in os.environ:
    # The worker patches by itself, but under --preload that is after Django's import.
    from project import with_gevent  # noqa: F401


def on_exit(server):
    """Report the sessions of the master, which calls this when the workers have ended."""
    from project import sessions

    sessions.look_again(os.environ["SERVERS_REPORT"])
