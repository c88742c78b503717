"""A private, throw-away Redis, the broker of the task systems."""

from __future__ import absolute_import

import os

from demo_project.private import NoServer, PrivateServer

FOLDERS = ["/usr/bin", "/usr/sbin", "/usr/local/bin"] + os.environ.get("PATH", "").split(":")


class PrivateRedis(PrivateServer):
    name, scheme = "Redis", "redis"
    life = {
        "make": "true",
        "serve": '"$bin/redis-server" --port "$port" --bind 127.0.0.1 --dir "$folder" --save ""',
        "is_ready": '"$bin/redis-cli" -p "$port" ping | grep -q PONG',
        "signal": "TERM",
        "complaints": "error|Failed|Could not",
    }

    @property
    def url(self):
        return "redis://{0.host}:{0.port}".format(self)

    def find_binaries(self):
        for folder in FOLDERS:
            if os.access(os.path.join(folder, "redis-server"), os.X_OK):
                return folder
        raise NoServer("there is no redis-server: install Debian's package redis-server")

    def configuration(self, folder):
        return ""
