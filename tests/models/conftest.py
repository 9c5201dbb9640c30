import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.logging import MessageHub

WORKER = Path(__file__).with_name('dist_worker.py')
ROOT = Path(__file__).parents[2]


class Processes:
    """Two processes in one gloo group; see ``dist_worker.py``."""

    world_size = 2

    def __init__(self, folder):
        path = [str(ROOT), os.environ.get('PYTHONPATH', '')]
        environment = {
            **os.environ,
            'OMP_NUM_THREADS': '1',
            'GLOO_SOCKET_IFNAME': 'lo',
            'PYTHONPATH': os.pathsep.join(filter(None, path)),
        }
        self.workers = [
            subprocess.Popen(
                [
                    sys.executable,
                    str(WORKER),
                    str(rank),
                    str(self.world_size),
                    str(folder / 'store'),
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
            )
            for rank in range(self.world_size)
        ]

    def __call__(self, function, *args):
        """Return ``function(*args)`` of each rank.

        The function must stand at the top of a test module; it learns its
        rank from ``torch.distributed``.
        """
        request = (function.__code__.co_filename, function.__name__, args)
        for worker in self.workers:
            pickle.dump(request, worker.stdin)
            worker.stdin.flush()
        results = []
        for rank, worker in enumerate(self.workers):
            done, result = pickle.load(worker.stdout)
            assert done, f'rank {rank}:\n{result}'
            results.append(result)
        return results

    def close(self):
        for worker in self.workers:
            worker.stdin.close()
        for worker in self.workers:
            try:
                worker.wait(10)
            except subprocess.TimeoutExpired:
                worker.kill()


@pytest.fixture(scope='session')
def process_pair(tmp_path_factory):
    state = {}

    def get():
        if 'pair' not in state:
            state['pair'] = Processes(tmp_path_factory.mktemp('gloo'))
        return state['pair']

    def drop():
        if 'pair' in state:
            state.pop('pair').close()

    yield get, drop
    drop()


@pytest.fixture
def two_processes(process_pair):
    """Run a module-level function of the test file on two ranks."""
    get, drop = process_pair

    def call(function, *args):
        try:
            return get()(function, *args)
        except BaseException:
            drop()  # the ranks may be out of step
            raise

    return call


@pytest.fixture(autouse=True)
def _fresh():
    """Fixed seed; no training under way that an earlier test broke off."""
    torch.manual_seed(0)
    MessageHub.get_current_instance().update_info('loop_stage', None)
