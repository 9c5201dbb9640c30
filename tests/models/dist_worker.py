"""One process of the pair that the ``two_processes`` fixture starts.

Reads pickled ``(file, function, args)`` from stdin, calls the function of
that test file in a gloo group and writes the pickled result to stdout. The
pair stays up for the whole session, so its imports are paid once.
"""

import datetime
import importlib.util
import os
import pickle
import sys
import traceback

RANK, WORLD_SIZE, STORE = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
TIMEOUT = datetime.timedelta(seconds=60)


def load(path, modules={}):  # noqa: B006 (a cache)
    if path not in modules:
        spec = importlib.util.spec_from_file_location('worker_tests', path)
        modules[path] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(modules[path])
    return modules[path]


def serve(requests, answers):
    import torch

    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'file://{STORE}',
        rank=RANK,
        world_size=WORLD_SIZE,
        timeout=TIMEOUT,
    )
    while True:
        try:
            path, name, args = pickle.load(requests)
        except EOFError:
            return
        try:
            torch.manual_seed(0)
            answer = True, getattr(load(path), name)(*args)
        except Exception:
            answer = False, traceback.format_exc()
        pickle.dump(answer, answers)
        answers.flush()


if __name__ == '__main__':
    pipe = os.fdopen(os.dup(1), 'wb')
    os.dup2(2, 1)  # whatever prints goes to stderr
    serve(sys.stdin.buffer, pipe)
