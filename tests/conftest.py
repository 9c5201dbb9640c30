import os

# Before torch: tests are tiny, and threads would only get in each other's way.
for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
    os.environ.setdefault(name, '1')
os.environ.setdefault('MPLBACKEND', 'Agg')

import random  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from mmengine.logging import MessageHub, MMLogger  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402
from mmengine.visualization import Visualizer  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Every test draws the same numbers, alone or in any order."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def fresh_globals():
    """No test sees the scope, loggers and records of the one before it."""
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for manager in (DefaultScope, MessageHub, MMLogger, Visualizer):
        manager._instance_dict.clear()


def pytest_collection_modifyitems(items):
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason='needs a CUDA device')
    for item in items:
        if item.get_closest_marker('gpu'):
            item.add_marker(skip)


class HostWaits(TorchDispatchMode):
    """Collects what would make the host wait for a device.

    Reads of values (``item``, ``bool``), results whose size depends on
    values (``nonzero``, boolean indexing), and tensors made of host data
    (copied from pageable memory, which also waits).
    """

    waits = (
        '_local_scalar_dense',
        'item',
        'nonzero',
        'is_nonzero',
        'masked_select',
        'equal',
        'unique',
        '_unique2',
        'lift_fresh',
    )

    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        boolean = name in ('index', 'index_put', 'index_put_') and any(
            index is not None and index.dtype in (torch.bool, torch.uint8)
            for index in args[1]
        )
        if name in self.waits or boolean:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.fixture
def host_waits():
    """The class of a context that collects waits in its ``found``."""
    return HostWaits
