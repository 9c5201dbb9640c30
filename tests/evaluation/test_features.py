import datetime
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmpretrain.models.utils import SelfSupDataPreprocessor
from mmpretrain.structures import DataSample
from torch import nn

from mmssd.evaluation import features as module
from mmssd.evaluation.features import (
    ImageBatches,
    evaluating,
    extract_features,
    extract_parts,
    get_backbone,
)

MEAN, STD = [100.0, 110.0, 120.0], [50.0, 60.0, 70.0]


class Backbone(nn.Module):
    """A convolution with batch norm and dropout; a tuple of stages out."""

    def __init__(self, width=4):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1)
        self.norm = nn.BatchNorm2d(width)
        self.drop = nn.Dropout(0.5)

    def forward(self, x):
        x = self.norm(self.conv(x))
        return x, self.drop(x) * 2


class Model(BaseModel):
    def __init__(self, teacher=True, **preprocess):
        super().__init__(
            data_preprocessor=SelfSupDataPreprocessor(
                mean=MEAN, std=STD, **preprocess
            )
        )
        torch.manual_seed(3)
        self.backbone = Backbone()
        self.teacher = None
        if teacher:
            self.teacher = nn.Module()
            self.teacher.backbone = Backbone(6)
        for backbone in self.modules():
            if isinstance(backbone, nn.BatchNorm2d):
                backbone.running_mean.normal_()
                backbone.running_var.uniform_(0.5, 2)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        raise NotImplementedError


def make_images(num=11):
    generator = torch.Generator().manual_seed(7)
    return torch.randint(
        0, 256, (num, 6, 5, 3), generator=generator, dtype=torch.uint8
    )


class Dataset:
    def __init__(self, images, labels=None):
        self.images, self.labels, self.reads = images, labels, 0

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.reads += 1
        sample = DataSample()
        if self.labels is not None and self.labels[index] is not None:
            sample.set_gt_label(self.labels[index])
        image = self.images[index].permute(2, 0, 1).contiguous()
        return dict(inputs=image, data_samples=sample)


def reference(backbone, images):
    """The features written out: normalise, convolve, norm, double, mean."""
    x = (images.double() - torch.tensor(MEAN)) / torch.tensor(STD)
    x = x.permute(0, 3, 1, 2)
    conv, norm = backbone.conv, backbone.norm
    x = F.conv2d(x, conv.weight.double(), conv.bias.double(), padding=1)
    shape = (1, -1, 1, 1)
    x = (x - norm.running_mean.double().view(shape)) / (
        norm.running_var.double().view(shape) + norm.eps
    ).sqrt()
    return (2 * x).mean(dim=(2, 3))


@pytest.mark.parametrize('part', ['student', 'teacher'])
@pytest.mark.parametrize('batch_size', [1, 4, 100])
def test_values_of_array_and_dataset(part, batch_size):
    model, images = Model(), make_images()
    labels = list(range(11))
    expected = reference(get_backbone(model, part), images).float()
    for data, given in (
        (images, torch.tensor(labels)),
        (images.numpy(), np.array(labels)),
        (Dataset(images, labels), None),
    ):
        features, found = extract_features(
            model, data, part, labels=given, batch_size=batch_size
        )
        assert features.dtype == torch.float32
        torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)
        assert found.tolist() == labels


def test_channel_order_is_the_preprocessors():
    images = make_images()
    rgb, _ = extract_features(Model(), images)
    bgr, _ = extract_features(Model(to_rgb=True), images.flip(-1))
    torch.testing.assert_close(rgb, bgr)


def test_mode_state_and_random_numbers_unchanged():
    model = Model().train()
    model.backbone.norm.eval()  # as a frozen norm
    before = {k: v.clone() for k, v in model.state_dict().items()}
    flags = [m.training for m in model.modules()]
    state = torch.get_rng_state(), np.random.get_state()[1].copy()
    data = Dataset(make_images(), range(11))
    features, _ = extract_features(model, data, batch_size=4)
    assert not features.requires_grad
    assert [m.training for m in model.modules()] == flags
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]), key
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (np.random.get_state()[1] == state[1]).all()


def test_mode_restored_after_an_error():
    model = Model().train()
    with pytest.raises(RuntimeError), evaluating(model.backbone):
        assert not model.backbone.drop.training
        raise RuntimeError
    assert model.backbone.drop.training


def test_caches_of_eval_mode_are_dropped():
    class Caching(nn.Module):
        cache = None

        def train(self, mode=True):
            if mode:
                self.cache = None
            return super().train(mode)

    module = Caching()
    with evaluating(module):
        module.cache = 'stale after the next update'
    assert module.cache is None and module.training


def test_bare_backbone_and_no_labels():
    backbone, images = Backbone(), make_images()
    floats = [
        dict(inputs=image, data_samples=DataSample())
        for image in images.permute(0, 3, 1, 2).float()
    ]
    features, labels = extract_features(backbone, floats, batch_size=3)
    assert features.shape == (11, 4) and labels is None
    preprocessor = SelfSupDataPreprocessor(mean=[0.0] * 3, std=[1.0] * 3)
    same, _ = extract_features(
        backbone, images, data_preprocessor=preprocessor, batch_size=3
    )
    torch.testing.assert_close(features, same, rtol=1e-5, atol=1e-4)
    with pytest.raises(ValueError, match='no data_preprocessor'):
        extract_features(backbone, images)


def test_wrapped_model():
    model, images = Model(), make_images()
    expected, _ = extract_features(model, images, 'teacher')
    wrapped, _ = extract_features(nn.DataParallel(model), images, 'teacher')
    assert torch.equal(wrapped, expected)


def test_one_pass_for_all_parts_and_kept_batches():
    data = Dataset(make_images(), range(11))
    batches = ImageBatches(data, batch_size=4, keep=True)
    model = Model()
    first, _ = extract_parts(model, batches, ('student', 'teacher'))
    assert data.reads == 11
    again, labels = extract_parts(model, batches, ('student', 'teacher'))
    assert data.reads == 11 and labels.tolist() == list(range(11))
    assert torch.equal(first['teacher'], again['teacher'])
    student, _ = extract_features(model, data, 'student', batch_size=4)
    assert torch.equal(first['student'], student)


def test_workers_give_the_same():
    data, model = Dataset(make_images(), range(11)), Model()
    alone, _ = extract_features(model, data, batch_size=4)
    workers, labels = extract_features(
        model, data, batch_size=4, num_workers=1
    )
    assert torch.equal(alone, workers) and labels.tolist() == list(range(11))


def test_long_extractions_show_how_far_they_are(monkeypatch, capsys):
    extract_features(Model(), Dataset(make_images()), batch_size=2)
    assert capsys.readouterr().err == ''  # a moment
    ticks = iter(range(0, 1000, 100))  # seconds: the start, each batch
    clock = SimpleNamespace(monotonic=lambda: next(ticks))
    monkeypatch.setattr(module, 'time', clock)
    monkeypatch.setattr(module, 'PAUSE', 150.0)
    extract_features(Model(), Dataset(make_images()), batch_size=2)
    # 11 images in 6 batches of 100 s, a line after each second one;
    # 200 s for 4 images leave 350 s for 7, 400 s for 8 150 s for 3
    assert capsys.readouterr().err.splitlines() == [
        'Features(student) [4/11] eta: 0:05:50',
        'Features(student) [8/11] eta: 0:02:30',
        'Features(student) [11/11] eta: 0:00:00',
    ]


def test_errors():
    model, images = Model(teacher=False), make_images()
    with pytest.raises(ValueError, match="part='teacher': the Model has no"):
        extract_features(model, images, 'teacher')
    with pytest.raises(ValueError, match="part='assistant'"):
        extract_features(model, images, 'assistant')
    with pytest.raises(ValueError, match='no images'):
        extract_features(model, images[:0])
    with pytest.raises(ValueError, match=r'uint8 \(N, H, W, C\)'):
        extract_features(model, images.float())
    with pytest.raises(ValueError, match='each of the 11 images'):
        extract_features(model, images, labels=[1, 2])
    with pytest.raises(ValueError, match='batch_size=0'):
        extract_features(model, images, batch_size=0)
    some = Dataset(images, [0, 1, 2] + [None] * 8)
    with pytest.raises(ValueError, match='label all or none'):
        extract_features(model, some, batch_size=3)
    views = [dict(inputs=[images[0]] * 2, data_samples=DataSample())]
    with pytest.raises(TypeError, match='several views'):
        extract_features(model, views)
    sizes = [
        dict(inputs=torch.zeros(3, size, 4), data_samples=DataSample())
        for size in (4, 5)
    ]
    with pytest.raises(ValueError, match='different shapes'):
        extract_features(model, sizes)


def work(rank, world_size, folder):
    """What one of several processes does in the test below."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/init',
        rank=rank,
        world_size=world_size,
        timeout=datetime.timedelta(seconds=60),
    )
    model, results = Model(), []
    if rank:  # statistics that are not synchronised
        model.backbone.norm.running_mean += 1
    before = model.backbone.norm.running_mean.clone()
    for num in (11, 8, 3):  # 3: one batch, so one rank has nothing to do
        images = make_images(num)
        data = Dataset(images, range(num))
        batches = ImageBatches(data, batch_size=4)
        results.append(extract_parts(model, batches, ('student', 'teacher')))
        results.append(extract_features(model, images, batch_size=4))
    assert torch.equal(model.backbone.norm.running_mean, before)
    torch.save(results, f'{folder}/out.{rank}')
    torch.distributed.destroy_process_group()


@pytest.mark.dist
def test_two_processes_equal_one(tmp_path):
    path = os.pathsep.join(filter(None, sys.path))
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(rank), '2', str(tmp_path)],
            env={**os.environ, 'PYTHONPATH': path},
        )
        for rank in range(2)
    ]
    assert [process.wait(100) for process in processes] == [0, 0]
    model = Model()
    for rank in range(2):
        results = iter(torch.load(f'{tmp_path}/out.{rank}'))
        for num in (11, 8, 3):
            images = make_images(num)
            data = Dataset(images, range(num))
            expected, labels = extract_parts(
                model,
                ImageBatches(data, batch_size=4),
                ('student', 'teacher'),
            )
            parts, found = next(results)
            assert torch.equal(found, labels)
            for part, rows in expected.items():
                torch.testing.assert_close(parts[part], rows)
            features, found = next(results)
            torch.testing.assert_close(features, expected['student'])
            assert found is None


if __name__ == '__main__':
    work(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
