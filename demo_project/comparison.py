"""The same requests with stock Django and with persistconn; then with connections that get lost."""

from collections import namedtuple
from timeit import default_timer

from django.db.backends.signals import connection_created
from tqdm import tqdm

import persistconn
from demo_project import traffic

KILLS = 20

Row = namedtuple("Row", "mode rate p50 p95 opened accepted most")


class Comparison(object):
    def __init__(self, witness, clients, threads):
        self._witness = witness
        self._clients = clients
        self._server = traffic.Server(threads)
        self._opened = []
        self._answers = []

    def __enter__(self):
        connection_created.connect(self._count, weak=False)
        self._server.__enter__()
        self._send("warm-up", traffic.mixture("warm-up", 50))
        return self

    def __exit__(self, *exception):
        self._server.__exit__(*exception)
        connection_created.disconnect(self._count)
        persistconn.drain()

    def _count(self, **kwargs):
        self._opened.append(kwargs["sender"])

    def _send(self, title, requests):
        requests = list(requests)
        with tqdm(total=len(requests), desc=title, disable=None, leave=False) as bar:
            answers = traffic.send(
                self._server.port, requests, self._clients, lambda done: bar.update(done - bar.n)
            )
        self._answers += answers
        return answers

    def measure(self, mode, count):
        persistconn.disable()
        # Those of the mode before may still be ending, and would be counted with this one's.
        self._witness.wait_for_no_backends()
        if mode == "persistconn":
            persistconn.enable()
        with self._witness.watching() as watched:
            opened, accepted = len(self._opened), self._witness.sessions()
            start = default_timer()
            answers = self._send(mode, traffic.mixture(mode.split()[0], count))
            seconds = default_timer() - start
        opened = len(self._opened) - opened
        if accepted is not None:
            accepted = self._witness.sessions(at_least=accepted + opened) - accepted
        times = sorted(answer.seconds * 1000 for answer in answers)
        p50, p95 = times[count // 2], times[count * 95 // 100]
        return Row(mode, count / seconds, p50, p95, opened, accepted, max(watched))

    def end_connections(self):
        """The backends ended, the requests sent after that, and how many of them failed."""
        ended, answers = 0, []
        for kill in range(KILLS):
            ended += self._witness.end_backends()
            token = "kill-{}-{{}}".format(kill).format
            views = [
                (traffic.product(n), traffic.order(token(n)), traffic.refused(token(n)))
                for n in range(self._clients)
            ]
            # Each client takes every n-th request: that way, one of every view.
            answers += self._send("kill", [view for each in zip(*views) for view in each])
        return ended, len(answers), len(_failed(answers))

    def orders(self):
        """Acknowledged ones, present ones, and those that a request which raised has left."""
        orders = [answer for answer in self._answers if answer.request.path.startswith("/order/")]
        present = self._witness.count("persistconn_demo_order WHERE paid")
        unpaid = self._witness.count("persistconn_demo_order WHERE NOT paid")
        return len(orders) - len(_failed(orders)), present, unpaid

    def problems(self):
        failed = _failed(self._answers)
        acknowledged, present, unpaid = self.orders()
        if failed:
            request, _, text, _ = failed[0]
            yield "{} requests failed, the first: {} {}".format(len(failed), request.path, text)
        if acknowledged != present:
            yield "{} orders acknowledged, {} present".format(acknowledged, present)
        if unpaid:
            yield "{} orders present though their request raised".format(unpaid)


def _failed(answers):
    return [answer for answer in answers if not traffic.is_expected(answer)]
