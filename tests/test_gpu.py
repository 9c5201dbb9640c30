"""What a CUDA device shows, skipped without one; and bfloat16 anywhere."""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmssd.apis import benchmark
from mmssd.apis.config import load_config
from mmssd.evaluation import knn_classify, linear_probe, majority_classify
from mmssd.models.distillers.teacher_cache import TeacherCache
from mmssd.models.losses.similarity_distillation import (
    similarity_distillation,
)
from mmssd.models.utils import sinkhorn
from mmssd.models.utils.multi_crop_preprocessor import ViewRecipe
from mmssd.models.utils.view_draws import SeededDraws

DEMO = Path(__file__).parents[1] / 'configs' / 'demo'
BASELINES = DEMO.parent / 'baselines'
DINO = BASELINES / 'dino_vit-tiny_8xb64-coslr-100e_in1k.py'
WITH_LARS = dict(
    byol=BASELINES / 'byol_resnet18_8xb32-accum16-coslr-200e_in1k.py',
    simclr=BASELINES / 'simclr_resnet18_8xb32-coslr-200e_in1k.py',
)
METHODS = (
    *('oss', 'swav', 'seed', 'compress-1q', 'compress-2q', 'mocov2'),
    *('disco', 'dino', 'byol', 'simclr'),
)


@contextmanager
def no_waiting():
    """Whatever makes the host wait for the device is an error."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


def small_dino():
    """The published networks and objective, for images of 32 pixels."""
    config = load_config(DINO)
    config.model.backbone.update(
        img_size=32,
        patch_size=8,
        drop_path_rate=0.0,  # drawn in the precision of the rows
    )
    config.model.neck.hid_channels = 64
    config.model.heads.dino.num_prototypes = 128
    config.model.momentum.final_decay = None  # needs a runner's progress
    config.model.num_global = 2
    config.data_preprocessor = benchmark.preprocessor_of([(2, 32)])
    config.model.data_preprocessor = config.data_preprocessor
    return config


def with_lars(method):
    """Whose optimizer has norms of each tensor; for images of 32 pixels."""
    config = load_config(WITH_LARS[method])
    config.optim_wrapper.accumulative_counts = 1
    if config.model.get('momentum'):
        config.model.momentum.final_decay = None  # as above
    config.data_preprocessor = benchmark.preprocessor_of([(2, 32)])
    config.model.data_preprocessor = config.data_preprocessor
    return config


def load(method):
    if method == 'dino':
        return small_dino()
    if method in WITH_LARS:
        return with_lars(method)
    return load_config(next(DEMO.glob(f'{method}_resnet18w4*.py')))


def build(method, amp, device='cuda'):
    config = load(method)
    config.model.setdefault('data_preprocessor', config.data_preprocessor)
    teacher = config.model.get('teacher')
    if teacher and teacher.get('frozen'):
        teacher.checkpoint = 'random'
    config.optim_wrapper.type = 'AutocastOptimWrapper'
    config.optim_wrapper.dtype = 'bfloat16' if amp else 'float32'
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
        model.init_weights()
        model = model.to(device).train()
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
    benchmark.set_midway(model)
    return model, wrapper


def images(number=16, device='cuda'):
    generator = torch.Generator().manual_seed(0)
    shape = (number, 3, 32, 32)
    pixels = torch.randint(0, 256, shape, generator=generator)
    return pixels.to(device, torch.uint8)


@pytest.mark.gpu
@pytest.mark.parametrize('method', METHODS)
def test_a_step_never_waits_for_the_device(method):
    """From uint8 images to the update, in bfloat16 and channels-last."""
    model, wrapper = build(method, amp=True)
    data = dict(inputs=images())
    for _ in range(2):  # kernels are chosen, states are made
        model.train_step(data, wrapper)
    with no_waiting():
        logs = model.train_step(data, wrapper)
    assert torch.isfinite(logs['loss'])
    assert model.channels_last


@pytest.mark.parametrize(
    'device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
)
@pytest.mark.parametrize('method', METHODS)
def test_bfloat16_is_near_float32(method, device):
    """The first loss of the same weights on the same views, to 0.5 %."""
    losses = []
    for amp in (False, True):
        torch.manual_seed(0)
        model, wrapper = build(method, amp, device)
        torch.manual_seed(1)
        data = dict(inputs=images(device=device))
        views = model.data_preprocessor(data, True)['inputs']
        with wrapper.optim_context(model):
            terms = model(views, mode='loss')
        losses.append(float(model.parse_losses(terms)[0]))
    assert losses[1] == pytest.approx(losses[0], rel=0.005)


@pytest.mark.gpu
@pytest.mark.parametrize('method', ['oss', 'dino'])
def test_views_are_made_in_float32_under_autocast(method):
    """Bit by bit those of a step without it, from the same draws."""
    model, _ = build(method, amp=True)
    found = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast('cuda', torch.bfloat16, enabled=enabled):
            data = model.data_preprocessor(dict(inputs=images()), True)
        found.append(data['inputs'])
    assert len(found[0]) == len(found[1]) >= 2
    for plain, under in zip(*found, strict=True):
        assert under.dtype == torch.float32
        assert torch.equal(plain, under)


@pytest.mark.gpu
@pytest.mark.parametrize(
    ('method', 'views'), [('oss', [(2, 32), (2, 20)]), ('seed', [(1, 32)])]
)
def test_an_iteration_of_the_runner_never_waits(method, views, tmp_path):
    """Between two looks of the hooks: data, step, hooks and log."""
    config = load(method)
    benchmark.set_images(config, 'memory', tmp_path, 256, 32, views)
    teacher = config.model.teacher
    if teacher.get('frozen'):
        teacher.checkpoint = 'random'
    config.train_dataloader.batch_size = 16
    config.optim_wrapper.type = 'AutocastOptimWrapper'
    config.custom_hooks = [dict(type='ResidentImagesHook')]
    config.default_hooks.logger.interval = 1000
    loop = benchmark.stepped_loop(config, tmp_path, method)
    for _ in range(21):  # a look after the twentieth
        loop.advance()
    with no_waiting():
        for _ in range(5):
            loop.advance()
    assert loop.iter == 26


@pytest.mark.gpu
def test_a_run_with_images_on_the_device(tmp_path):
    """Three iterations of the Runner, as with images from the host."""
    losses = {}
    for name, hooks in (
        ('host', []),
        ('device', [dict(type='ResidentImagesHook')]),
    ):
        config = load('mocov2')
        benchmark.set_images(config, 'memory', tmp_path, 64, 32, [(2, 32)])
        config.train_dataloader.batch_size = 16
        config.custom_hooks = [dict(type='HealthHook'), *hooks]
        config.randomness = dict(seed=0)
        loop = benchmark.stepped_loop(config, tmp_path, name)
        model, found = loop.runner.model, []
        parse = model.parse_losses

        def spy(terms, parse=parse, found=found):
            total, logs = parse(terms)
            found.append(float(total.detach()))
            return total, logs

        model.parse_losses = spy
        first = model.backbone.conv1.weight.detach().clone()
        for _ in range(3):
            loop.advance()
        assert first.device.type == 'cuda'
        assert not torch.equal(first, model.backbone.conv1.weight)
        resident = model.data_preprocessor.resident
        assert (resident is not None) == bool(hooks)
        if hooks:
            assert resident.is_cuda and resident.shape == (64, 3, 32, 32)
        losses[name] = found
    assert len(losses['host']) == 3
    # kernels may add up in another order
    assert losses['device'] == pytest.approx(losses['host'], rel=1e-3)


@pytest.mark.gpu
def test_seeded_views_are_those_of_the_cpu():
    keys = torch.stack([torch.full((16,), 3), torch.arange(16)], 1)
    keys = torch.cat([keys, torch.ones(16, 1, dtype=torch.long)], 1)
    recipe = ViewRecipe(num=1, size=24)
    pixels = images().float() / 255
    expected = recipe(pixels.cpu(), SeededDraws(keys))
    recipe(pixels, SeededDraws(keys, pixels.device))
    with no_waiting():
        found = recipe(pixels, SeededDraws(keys, pixels.device))
    torch.testing.assert_close(found.cpu(), expected, rtol=0, atol=1e-3)


@pytest.mark.gpu
def test_looking_a_teacher_up_does_not_wait(tmp_path):
    cache = TeacherCache.create(
        tmp_path, {}, dict(draws=2), 8, [0], dict(embeddings=4)
    )
    rows = np.arange(64, dtype=np.float32).reshape(16, 1, 4)
    cache.arrays['embeddings'][:] = rows
    keys = torch.tensor([[0, 7, 1], [0, 2, 0]])
    cache.encodings(keys, ['embeddings'], [0], 'cuda')
    with no_waiting():
        found = cache.encodings(keys, ['embeddings'], [0], 'cuda')
    assert np.array_equal(found.embeddings[0].cpu().numpy(), rows[[15, 4], 0])


@pytest.mark.gpu
def test_objectives_are_those_of_the_cpu():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 32, 64)
    queue = torch.nn.functional.normalize(torch.randn(512, 64), dim=1)
    found = similarity_distillation(
        student.cuda(), teacher.cuda(), queue.cuda()
    )
    expected = similarity_distillation(student, teacher, queue)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-4)
    scores = torch.randn(64, 30)
    scores /= scores.abs().max()
    for bound in (None, 1):
        found = sinkhorn(scores.cuda(), bound=bound).cpu()
        torch.testing.assert_close(
            found, sinkhorn(scores), rtol=1e-4, atol=1e-6
        )


@pytest.mark.gpu
def test_extra_memory_of_seed():
    """Less than 1.5 tensors of 256 x 65,536 in float32, by the allocator."""
    n, k, d = 256, 65_536, 128
    student = torch.randn(n, d, device='cuda', requires_grad=True)
    teacher = torch.randn(n, d, device='cuda')
    queue = torch.randn(k, d, device='cuda')
    similarity_distillation(student, teacher, queue).backward()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    similarity_distillation(student, teacher, queue).backward()
    extra = torch.cuda.max_memory_allocated() - before
    assert extra <= 1.5 * 4 * n * k


@pytest.mark.gpu
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_probes_are_those_of_the_cpu(dtype):
    generator = torch.Generator().manual_seed(0)
    sets = []
    for rows in (700, 200):
        labels = torch.randint(5, (rows,), generator=generator)
        x = torch.randn(rows, 16, generator=generator, dtype=torch.float64)
        sets += [(x + labels[:, None]).to(dtype), labels]
    there = [tensor.cuda() for tensor in sets]
    classified = knn_classify(*there[:3], k=20)
    assert classified.is_cuda and classified.dtype == dtype
    exact = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(
        classified.cpu(), knn_classify(*sets[:3], k=20), rtol=0, atol=exact
    )
    assert torch.equal(
        majority_classify(*there[:3], k=3).cpu(),
        majority_classify(*sets[:3], k=3),
    )
    assert linear_probe(*there) == pytest.approx(linear_probe(*sets))
