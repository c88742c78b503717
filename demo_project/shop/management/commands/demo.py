from __future__ import print_function

import json
import platform
import sys
from contextlib import contextmanager

import django
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

import persistconn
from demo_project.private import NoServer
from demo_project.settings import SERVERS, database_from_url
from demo_project.witness import DatabaseTrouble, witness_of

try:
    from demo_project.comparison import Comparison
except ImportError as error:
    raise SystemExit("{}: pip install waitress tqdm".format(error))


class Command(BaseCommand):
    help = "Measures requests with stock Django and with persistconn, then kills their connections."
    # Checks of models would ask a MariaDB that has not started.
    if django.VERSION < (1, 7):
        requires_model_validation = False
    else:
        requires_system_checks = []

    def create_parser(self, *args, **kwargs):
        parser = super(Command, self).create_parser(*args, **kwargs)
        # optparse before Django 1.8, argparse since.
        add = getattr(parser, "add_argument", None) or parser.add_option
        add("--requests", type=int, default=2000, help="requests to send in each of the two modes")
        add(
            "--clients", type=int, help="HTTP clients to send them; as many as threads if not given"
        )
        add("--threads", type=int, default=4, help="threads of the server")
        # settings.py reads this one.
        add(
            "--database",
            choices=sorted(SERVERS),
            help="start a server of this kind; if not given, DATABASE_URL, else postgresql",
        )
        add("--max-conns", type=int, help="PERSISTCONN_MAX_CONNS; without it there is no bound")
        return parser

    def handle(self, *args, **options):
        requests, threads = max(1, options["requests"]), max(1, options["threads"])
        clients = max(1, options["clients"] or threads)
        settings.PERSISTCONN_MAX_CONNS = options["max_conns"]
        try:
            with database(threads) as witness:
                problems = compare(witness, requests, clients, threads)
        except (DatabaseTrouble, NoServer) as error:
            raise CommandError(str(error))
        except KeyboardInterrupt:
            raise CommandError("interrupted")
        if problems:
            raise CommandError("; ".join(problems))


@contextmanager
def database(threads):
    """What DATABASE_URL names, or a private server, with the tables of the demo in it."""
    if settings.PRIVATE_SERVER is None:
        with witness_of(connections["default"]) as witness:
            yield witness
    else:
        with settings.PRIVATE_SERVER(max_connections=threads + 50) as server:
            started = database_from_url(server.url)
            started["OPTIONS"].update(server.options)
            connections["default"].settings_dict.update(started)
            with witness_of(connections["default"]) as witness:
                yield witness


def compare(witness, requests, clients, threads):
    versions = django.get_version(), platform.python_version(), witness.version()
    say("Django {}, Python {}, {}", *versions)
    say("{} clients, {} server threads, {} requests in each mode", clients, threads, requests)
    with Comparison(witness, clients, threads) as comparison:
        say(table([comparison.measure(mode, requests) for mode in ("stock Django", "persistconn")]))
        costs = witness.costs()
        say("one connect costs {:.2f} ms, one query on an open connection {:.2f} ms", *costs)
        ended = comparison.end_connections()
        say("killed {} backends between requests: {} requests, {} failed", *ended)
        say("persistconn.stats(): {}", json.dumps(persistconn.stats(), sort_keys=True))
        orders = comparison.orders()
        say("orders: {} acknowledged, {} present, {} left by requests that raised", *orders)
        return list(comparison.problems())


def table(rows):
    line = "{:14}{:>12}{:>10}{:>10}{:>20}{:>20}{:>14}".format
    titles = "requests/s,p50 ms,p95 ms,connections opened,counted by server,most at once"
    lines = [line("", *titles.split(","))]
    for row in rows:
        figures = "{:.0f} {:.2f} {:.2f}".format(row.rate, row.p50, row.p95).split()
        accepted = "-" if row.accepted is None else row.accepted
        lines.append(line(row.mode, *(figures + [row.opened, accepted, row.most])))
    return "\n".join(lines)


def say(text, *values):
    print(text.format(*values))
    sys.stdout.flush()
