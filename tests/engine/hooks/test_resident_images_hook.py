"""Images on the device train as those of the loader."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS

from mmssd.datasets.array_dataset import ArrayDataset
from mmssd.engine.hooks import resident_images_hook
from mmssd.engine.hooks.resident_images_hook import ResidentImagesHook
from mmssd.models.utils.multi_crop_preprocessor import MultiCropPreprocessor
from mmssd.models.utils.plan import SetupError

IMAGES, SIDE = 12, 10


@DATASETS.register_module()
class ResidentTestImages(ArrayDataset):
    packed = 0

    def __init__(self, **kwargs):
        rng = np.random.default_rng(0)
        super().__init__(
            rng.integers(0, 256, (IMAGES, SIDE, SIDE), dtype=np.uint8),
            np.arange(IMAGES) % 3,
            **kwargs,
        )

    def get_data_info(self, idx):
        type(self).packed += 1
        return super().get_data_info(idx)


def run(folder, hook, seeded=False, **changes):
    """Losses of a few steps."""
    dataset = dict(
        type='ResidentTestImages',
        subset=0.7,
        pipeline=[dict(type='PackImage')],
    )
    if seeded:
        dataset = dict(type='SeededViews', draws=2, dataset=dataset)
    config = Config(
        dict(
            model=dict(
                type='Distiller',
                backbone=dict(
                    type='ResNet', depth=18, stem_channels=4, base_channels=4
                ),
                heads=dict(
                    contrast=dict(
                        type='MomentumContrastHead',
                        embed_dim=32,
                        queue_length=8,
                    )
                ),
                momentum=0.9,
                num_global=2,
                data_preprocessor=dict(
                    type='MultiCropPreprocessor',
                    mean=[120.0] * 3,
                    std=[60.0] * 3,
                    views=[dict(num=2, size=16)],
                ),
            ),
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type='InfiniteSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
                dataset=dataset,
            ),
        )
    )
    config.merge_from_dict(changes)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        runner = Runner(
            model=config.model,
            work_dir=str(folder),
            train_dataloader=config.train_dataloader,
            train_cfg=dict(by_epoch=False, max_iters=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
            custom_hooks=[hook] if hook else None,
            default_hooks=dict(checkpoint=None, logger=None),
            randomness=dict(seed=0),
            log_level='WARNING',
            default_scope='mmpretrain',
            experiment_name=f'resident_{bool(hook)}',
        )
        model, losses = runner.model, []
        parse = model.parse_losses

        def spy(terms):
            losses.append(float(terms['contrast.loss_contrast'].detach()))
            return parse(terms)

        model.parse_losses = spy
        ResidentTestImages.packed = 0
        runner.train()
    return losses, runner


HOOK = dict(type='ResidentImagesHook')


@pytest.mark.parametrize('seeded', [False, True])
def test_losses_are_those_without_it(tmp_path, seeded):
    expected, _ = run(tmp_path / 'a', None, seeded)
    assert ResidentTestImages.packed >= 12
    found, runner = run(tmp_path / 'b', HOOK, seeded)
    assert ResidentTestImages.packed == 0
    assert found == expected  # bit by bit
    # nothing stays behind
    assert runner.model.data_preprocessor.resident is None
    dataset = runner.train_dataloader.dataset
    assert not getattr(dataset, 'dataset', dataset).give_rows
    assert 'inputs' in dataset[0] and dataset[0]['inputs'].dim() == 3


def test_a_set_larger_than_memory_is_loaded_as_ever(
    tmp_path, monkeypatch, capsys
):
    expected, _ = run(tmp_path / 'a', None)
    size = 9 * SIDE * SIDE * 3  # 9 images of the subset, three channels
    for free, moved in ((2 * size, True), (2 * size - 1, False)):
        monkeypatch.setattr(
            resident_images_hook, 'free_memory', lambda device, f=free: f
        )
        found, _ = run(tmp_path / str(free), HOOK)
        assert found == expected
        assert (ResidentTestImages.packed == 0) == moved
        said = capsys.readouterr()
        assert ('batch by batch' in said.out + said.err) != moved


@pytest.mark.parametrize('grey', [True, False])
def test_images_are_copied_block_by_block(grey):
    """Beside the tensor no more than blocks, by numpy's own account."""

    class Many(ArrayDataset):
        def __init__(self):
            rng = np.random.default_rng(0)
            shape = (8192, 16, 24) if grey else (8192, 16, 24, 3)
            images = rng.integers(0, 256, shape, dtype=np.uint8)
            pipeline = [dict(type='PackImage')]
            labels = np.arange(8192) % 2
            super().__init__(images, labels, subset=0.75, pipeline=pipeline)

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        dataset = Many()
        preprocessor = MultiCropPreprocessor(
            mean=[0] * 3, std=[1] * 3, views=[dict(num=1, size=8)]
        )
    runner = SimpleNamespace(
        model=SimpleNamespace(data_preprocessor=preprocessor),
        train_dataloader=SimpleNamespace(dataset=dataset, num_workers=0),
    )
    expected = dataset.arrays()[0].transpose(0, 3, 1, 2)
    tracemalloc.start()
    try:
        ResidentImagesHook().before_train(runner)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(preprocessor.resident.numpy(), expected)
    assert preprocessor.resident.is_contiguous()
    assert len(expected) == 6144 and peak < expected.nbytes / 2


def test_free_memory_of_the_host():
    assert 2**20 < resident_images_hook.free_memory(torch.device('cpu'))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (
            {'train_dataloader.dataset.pipeline': [dict(type='PackInputs')]},
            'the pipeline is not',
        ),
        ({'train_dataloader.num_workers': 1}, 'num_workers=1'),
    ],
)
def test_what_it_is_not_for(tmp_path, changes, message):
    with pytest.raises(SetupError, match=message):
        run(tmp_path, HOOK, **changes)


def test_share():
    with pytest.raises(ValueError, match='share=0'):
        ResidentImagesHook(share=0)
