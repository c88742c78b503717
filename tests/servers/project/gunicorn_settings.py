"""What gunicorn reads before all else."""

from __future__ import absolute_import

import os

if "SERVERS_GEVENT" in os.environ:
    # The worker does so itself, but under --preload that is after Django's import.
    from project import with_gevent  # noqa: F401


def on_exit(server):
    """In the master, when the workers have ended."""
    from project import sessions

    sessions.look_again(os.environ["SERVERS_REPORT"])
