r"""How many judgements `libra serve` gives to many clients at once, how long each waits, and that none is lost.

    libra serve --workdir=runs/serve --config.checkpoint=libra_jax/miniature/checkpoint --config.template=miniature \
        --config.sampling.max_new_tokens=64 --config.service.longest=128
    python benchmarks/serve.py --url=http://127.0.0.1:8000 --clients=64 --requests=500

Every client posts one response after another to /score, on a connection of its own, and asks again where it is told
429 or 503, after what Retry-After says. The responses are solutions of the miniature's sums. Prints requests a second,
the median and 99th percentile of seconds from a request's first attempt to its scores, and what was refused and lost;
exits with 1 where one is lost, or where the same pair got two different answers.
"""

from __future__ import annotations

import collections
import concurrent.futures
import http.client
import itertools
import json
import queue
import random
import sys
import time
import urllib.parse

import numpy as np
from absl import app, flags

from libra_jax.miniature import arithmetic

URL = flags.DEFINE_string("url", "http://127.0.0.1:8000", "Where libra serve listens.")
CLIENTS = flags.DEFINE_integer("clients", 64, "Connections at once.")
REQUESTS = flags.DEFINE_integer("requests", 500, "Responses to score, each in a request of its own.")
VOTES = flags.DEFINE_integer("votes", 1, "Judgements of each.")
ATTEMPTS = 1000  # of a request, after which it counts as lost
DISTINCT = flags.DEFINE_integer("distinct", 100, "Different pairs among them; the others are asked again.")


def items(number: int, distinct: int) -> list[dict[str, str]]:
    """Questions with right and wrong solutions; the first `distinct` come again and again."""
    found = []
    for place, problem in enumerate(arithmetic.problems(0, min(number, distinct))):
        text, _ = arithmetic.solution(problem.question, random.Random(place), slip=0.3)
        found.append({"question": problem.question, "response": text})
    return [found[place % len(found)] for place in range(number)]


def client(left: queue.Queue, done: list, statuses: collections.Counter) -> None:
    """Scores one item after another until none is left."""
    where = urllib.parse.urlsplit(URL.value)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=300)
    while True:
        try:
            place, item = left.get_nowait()
        except queue.Empty:
            return
        start, body = time.monotonic(), json.dumps({"items": [item], "votes": VOTES.value})
        for attempt in itertools.count():
            try:
                connection.request("POST", "/score", body, {"Content-Type": "application/json"})
                reply = connection.getresponse()
                said, status, wait = reply.read(), reply.status, float(reply.getheader("Retry-After", "1"))
            except (OSError, http.client.HTTPException):  # the server may close a connection between two requests
                connection.close()
                said, status, wait = b"", 0, 0.1
            statuses[status or "no reply"] += 1
            if status not in (0, 429, 503) or attempt == ATTEMPTS:
                break
            time.sleep(wait * random.uniform(0.5, 1))
        done.append((place, time.monotonic() - start, status, said))


def main(_) -> None:
    """Prints the figures."""
    wanted = items(REQUESTS.value, DISTINCT.value)
    left, done, statuses = queue.Queue(), [], collections.Counter()
    for entry in enumerate(wanted):
        left.put(entry)
    start = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(CLIENTS.value) as threads:
        for future in [threads.submit(client, left, done, statuses) for _ in range(CLIENTS.value)]:
            future.result()
    seconds = time.monotonic() - start
    waits = [wait for _, wait, _, _ in done]
    answers = collections.defaultdict(set)
    for place, _, status, said in done:
        if status == 200:
            answers[json.dumps(wanted[place])].add(said)
    tokens = sum(json.loads(said)["usage"]["completion_tokens"] for _, _, status, said in done if status == 200)
    lost = len(wanted) - sum(status == 200 for _, _, status, _ in done)
    unlike = sum(len(said) > 1 for said in answers.values())
    p50, p99 = np.quantile(waits, [0.5, 0.99])
    print(f"{CLIENTS.value} clients, {len(wanted)} requests of {VOTES.value} votes: {len(wanted) / seconds:.1f} "
          f"requests/s, {tokens / seconds:,.0f} tokens/s, p50 {p50:.2f} s, p99 {p99:.2f} s, statuses {dict(statuses)}, "
          f"{lost} lost, {unlike} of {len(answers)} pairs with two answers")
    sys.exit(1 if lost or unlike else 0)


if __name__ == "__main__":
    app.run(main)
