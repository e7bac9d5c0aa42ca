"""A Ray cluster that outlives its drivers, in a process of its own; it ends with its standard input.

python -m ci.tests.fleet.served NODES    prints address, token and each node's raylet, then answers
add                                      one more node
preempt SHARD                            as Ray's own scheduler would end it
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

from fixtures.fleet.emulated import Emulated
from fixtures.fleet.on_ray import NAMESPACE


def main() -> None:
    """Serve until the standard input ends."""
    sys.stdout = sys.stderr  # Ray prints what becomes of nodes
    cluster = Emulated(0)
    raylets: dict[str, int] = {}

    def add() -> Any:
        node = cluster.add()
        raylets[f"emulated-{len(raylets)}"] = node.all_processes["raylet"][0].process.pid

    for _ in range(int(sys.argv[1])):
        add()
    import ray

    ray.init(
        address=cluster.address,
        namespace=NAMESPACE,
        configure_logging=False,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    answer({"address": cluster.address, "token": os.environ["RAY_AUTH_TOKEN"], "raylets": raylets})
    for line in sys.stdin:
        word, *names = line.split()
        if word == "add":
            add()
        for name in names:
            ray.kill(ray.get_actor(name))
        answer(raylets)
    ray.shutdown()
    cluster.close()


def answer(values: Any) -> None:
    """One line of JSON."""
    print(json.dumps(values), file=sys.__stdout__, flush=True)


if __name__ == "__main__":
    main()
