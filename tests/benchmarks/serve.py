"""Seconds that visitors of the app wait: one after another, and 32 at once.

    python tests/benchmarks/serve.py [--clients 32] [--requests 4] [--size 128] [--load]

Each of the 32 asks several times. --load: the app's memory, too, after 100 and 500
requests and after 64 clients that asked for 30 seconds without a pause. The app runs
as a user starts it: ``python app.py`` in the folder that ``build_demo`` writes,
EfficientNet-Lite0 in it. Exit status 1 if an answer is lost or wrong.
"""

import argparse
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from going_modular.config import Config
from going_modular.demo import build_demo
from going_modular.effnet import create_effnet_lite0_model
from going_modular.predictions import Predictor
from tests.test_app import App, ask_for, draw, encode, memory_of, started


def visit(app, picture, expected, requests):
    """Ask ``requests`` times; return (seconds of each, answers lost or wrong)."""
    seconds, lost = [], 0
    for _ in range(requests):
        begin = time.perf_counter()
        answer = app.ask(picture)
        seconds.append(time.perf_counter() - begin)
        lost += not isinstance(answer, dict) or max(answer, key=answer.get) != expected
    return seconds, lost


def report(name, seconds, wall):
    slow = sorted(seconds)[-(-len(seconds) * 95 // 100) - 1]
    median, rate = statistics.median(seconds), len(seconds) / wall
    print(
        f"{name:12} median {1000 * median:6.0f} ms   95th percentile "
        f"{1000 * slow:6.0f} ms   {rate:5.1f} requests/s"
    )


def put_load_on(app, picture, expected):
    """Print the memory after requests, each alone and many at once; return the lost."""
    lost = visit(app, picture, expected, 100)[1]
    first = memory_of(app.url.process)
    print(f"after 100 requests {first:6.0f} MB")
    lost += visit(app, picture, expected, 400)[1]
    memory = memory_of(app.url.process)
    print(f"after 500 requests {memory:6.0f} MB ({memory / first - 1:+.1%})")
    answers = ask_for(app, 30, 64)
    memory = memory_of(app.url.process)
    print(
        f"after 64 clients   {memory:6.0f} MB ({memory / first - 1:+.1%}), "
        f"{len(answers) / 30:.1f} requests/s"
    )
    return lost + sum(not isinstance(answer, dict) for answer in answers)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=4, help="of each client")
    parser.add_argument(
        "--size", type=int, default=128, help="pixels a side that the model looks at"
    )
    parser.add_argument("--load", action="store_true", help="measure memory, too")
    options = parser.parse_args()
    model, transform = create_effnet_lite0_model(3, "cpu", image_size=options.size)
    config = Config(model="effnet_lite0", image_size=options.size)
    predictor = Predictor(model, ["cat", "dog", "horse"], transform, config=config)
    picture = encode(draw())
    expected = predictor(picture)[0][0]
    with tempfile.TemporaryDirectory() as place:
        folder = build_demo(Path(place) / "demo", predictor)
        with started(folder) as url:
            app = App(url, folder, predictor)
            visit(app, picture, expected, 5)  # warm
            begin = time.perf_counter()
            seconds, lost = visit(app, picture, expected, 20)
            report("1 client", seconds, time.perf_counter() - begin)
            begin = time.perf_counter()
            with ThreadPoolExecutor(options.clients) as pool:
                found = list(
                    pool.map(
                        lambda _: visit(app, picture, expected, options.requests),
                        range(options.clients),
                    )
                )
            everything = [value for times, _ in found for value in times]
            report(
                f"{options.clients} clients", everything, time.perf_counter() - begin
            )
            lost += sum(number for _, number in found)
            if options.load:
                lost += put_load_on(app, picture, expected)
    print(f"{lost} answers lost or wrong")
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
