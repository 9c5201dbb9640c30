"""Layers without gradients, in several processes."""

from pathlib import Path

import pytest
import torch

CONFIG = (
    Path(__file__).resolve().parents[2]
    / 'configs/transfer/segmentation/fcn_xcit-tiny_4xb4-20ki_voc12aug.py'
)
SIZE = (32, 48)


def train_two_steps(find_unused=None):
    """Train the FCN of an XCiT on other images than the other rank.

    Returns what each parameter sums up to and whether it moved, or the
    error.
    """
    from mmengine.model import MMDistributedDataParallel
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS, DefaultScope
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    from mmssd.apis.config import load_config

    config = load_config(CONFIG)
    config.model.data_preprocessor.size = SIZE
    # fewer layers of the same kinds
    config.model.backbone.update(
        init_cfg=None, depth=4, out_indices=(0, 1, 2, 3)
    )
    if find_unused is None:
        find_unused = config.find_unused_parameters
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MMDistributedDataParallel(
            MODELS.build(config.model), find_unused_parameters=find_unused
        )
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    parameters = dict(model.module.named_parameters())
    start = {k: v.detach().clone() for k, v in parameters.items()}
    torch.manual_seed(torch.distributed.get_rank())
    for _ in range(2):
        samples = []
        for _ in range(2):
            mask = PixelData(data=torch.randint(0, 21, (1, *SIZE)))
            samples.append(SegDataSample(gt_sem_seg=mask))
            samples[-1].set_metainfo(dict(img_shape=SIZE, ori_shape=SIZE))
        images = torch.randint(0, 256, (2, 3, *SIZE), dtype=torch.uint8)
        try:
            model.train_step(
                dict(inputs=list(images), data_samples=samples), wrapper
            )
        except RuntimeError as error:
            return str(error)
    return {
        key: (value.double().sum().item(), not torch.equal(value, start[key]))
        for key, value in parameters.items()
    }


def test_an_xcit_gives_maps_in_two_processes(two_processes):
    pytest.importorskip('mmseg')
    first, second = two_processes(train_two_steps)
    assert first == second
    still = {
        name.split('.')[1] for name, (_, moved) in first.items() if not moved
    }
    # all behind the last map, and nothing else
    assert still == {'cls_token', 'ca_layers', 'norm'}
    for message in two_processes(train_two_steps, False):
        assert 'did not receive grad' in message
