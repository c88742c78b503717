"""gunicorn's hook in a new worker process."""

from __future__ import absolute_import


def post_fork(server, worker):
    if server.cfg.worker_class_str == "gevent":
        from psycogreen.gevent import patch_psycopg

        patch_psycopg()
