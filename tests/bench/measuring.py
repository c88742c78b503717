"""The measurements, in their order, and how long each takes."""

import contextlib
import dataclasses

import contenders
from processes import Client


@dataclasses.dataclass(frozen=True)
class Plan:
    """The turns of each measurement, and the seconds of each turn."""

    rounds: int = 5
    only_http: bool = False
    threads: tuple = (1, 4, 16)
    latencies: tuple = (0.001, 0.02)
    pool_threads: tuple = (1, 8, 64)
    connection: tuple = (9, 0.03)
    cursor: tuple = (5, 0.02)
    works: tuple = (("one", 15, 0.05), ("ten", 3, 0.1), ("write", 3, 0.1))
    http: tuple = (("one", 3, 0.15), ("ten", 3, 0.15), ("write", 1, 0.15))
    far_away: tuple = (2, 0.3)
    pool: float = 0.1
    #: memory: most requests, and seconds; crowd: threads, and requests of each.
    memory: tuple = (10000, 2)
    crowd: tuple = (1000, 5)


QUICK = Plan(
    rounds=1,
    threads=(4,),
    latencies=(0.001,),
    pool_threads=(8,),
    connection=(3, 0.01),
    cursor=(1, 0.01),
    works=(("one", 3, 0.02), ("ten", 1, 0.02), ("write", 1, 0.02)),
    http=(("one", 1, 0.02), ("ten", 1, 0.02), ("write", 1, 0.02)),
    far_away=(1, 0.02),
    pool=0.02,
    memory=(300, 0.5),
    crowd=(1000, 1),
)


class Bench:
    """The measurements of one environment."""

    def __init__(self, fleet, plan):
        self.fleet, self.plan = fleet, plan

    def round(self):
        """Take the measurements of one round, or only those over HTTP."""
        for threads in self.plan.threads:
            self._over_http(threads)
        if self.plan.only_http:
            return
        self._in_process()
        for latency in self.plan.latencies:
            self._far_away(latency)
        for threads in self.plan.pool_threads:
            self._bare_pools(threads)

    def _in_process(self):
        plan = self.plan
        with self.fleet.running(self.fleet.start, "start") as running:
            for metric in ("connection", "cursor"):
                turns, seconds = getattr(plan, metric)
                ask = order(metric, do=metric, seconds=seconds)
                self.fleet.take_turns(metric, running, turns, ask)
            for work, turns, seconds in plan.works:
                get = order(work, do="get", path=f"/{work}/", seconds=seconds)
                self.fleet.take_turns(work, running, turns, get)

    def _over_http(self, threads):
        server = self.fleet.running(self.fleet.serve, f"gunicorn, {threads}", threads=threads)
        with contextlib.closing(Client(threads)) as client, server as running:
            for work, turns, seconds in self.plan.http:
                metric = f"{work}, HTTP, {threads}"
                ask = client.asking(metric, f"/{work}/", seconds)
                self.fleet.take_turns(metric, running, turns, ask)

    def _far_away(self, latency):
        metric, (turns, seconds) = f"one, {latency * 1000:g} ms", self.plan.far_away
        with self.fleet.running(self.fleet.start, metric, latency=latency) as running:
            get = order(metric, do="get", path="/one/", seconds=seconds)
            self.fleet.take_turns(metric, running, turns, get)

    def _bare_pools(self, threads):
        environment, answers = self.fleet.environment, {}
        for name, requirement in contenders.BARE_POOLS.get(environment.name, {}).items():
            row = contenders.bare_pool(environment.name, name, requirement)
            values = self.fleet.alone(
                "pool", row, name=name, threads=threads, seconds=self.plan.pool
            )
            answers[name] = values.get(row.name)
        self.fleet.results.add(f"pool, {threads}", answers)

    def once(self):
        """Take the measurements that need no rounds."""
        most, seconds = self.plan.memory
        threads, each = self.plan.crowd
        row = contenders.crowd(self.fleet.environment.name)
        self.fleet.results.once = {
            "versions": self.fleet.alone("versions", contenders.stock(self.fleet.environment.name)),
            "memory": self.fleet.alone("memory", most=most, seconds=seconds),
            "crowd": self.fleet.alone("crowd", row, threads=threads, each=each),
        }


def order(metric, **words):
    return lambda process: {metric: process.ask(**words)}
