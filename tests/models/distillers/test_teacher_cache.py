"""A teacher that is looked up teaches what it would have said."""

import json
import shutil
from collections import namedtuple

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from mmpretrain.registry import DATASETS, MODELS
from PIL import Image
from torch import nn

from mmssd.apis import teacher_cache as api
from mmssd.models.distillers import teacher_cache
from mmssd.models.distillers.teacher_cache import TeacherCache
from mmssd.models.utils.plan import SetupError, TrainingPlan
from mmssd.models.utils.view_draws import SeededDraws

IMAGES, D = 6, 8
PHOTOMETRY = dict(type='RandomFlip', prob=0.5)
CROP = [dict(type='RandomResizedCrop', scale=16), PHOTOMETRY]
SMALL = [dict(type='RandomResizedCrop', scale=12), PHOTOMETRY]


@pytest.fixture(autouse=True)
def scope():
    MMLogger.get_instance('teacher_cache', log_level='ERROR')
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    root = tmp_path / 'images'
    root.mkdir()
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (20, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f'{number}.png')
    save_teacher(root)
    return root


def save_teacher(folder, seed=0, change=0.0):
    torch.manual_seed(seed)
    parts = nn.ModuleDict(
        dict(backbone=MODELS.build(BACKBONE), neck=MODELS.build(NECK))
    )
    for part in parts.values():
        part.init_weights()
    with torch.no_grad():
        parts.neck.mlp[0].bias[3] += change
    weights = dict(state_dict=parts.state_dict())
    torch.save(weights, folder.parent / 'teacher.pth')


BACKBONE = dict(type='ResNet', depth=18, stem_channels=4, base_channels=4)
NECK = dict(type='MoCoV2Neck', in_channels=32, hid_channels=8, out_channels=D)
SEED = dict(
    type='SimilarityQueueHead', embed_dim=D, queue_length=16, init='unit'
)
COMPRESS = dict(
    type='SimilarityQueueHead',
    objective='compress',
    embed_dim=32,
    student_dim=32,
    queue_length=16,
)
DISCO = dict(type='EmbeddingHead', weight=2.0)
CONTRAST = dict(type='MomentumContrastHead', embed_dim=D, queue_length=16)

METHODS = dict(
    seed=dict(heads=dict(similarity=SEED)),
    patches=dict(heads=dict(similarity=dict(SEED, small_patches=True))),
    compress=dict(heads=dict(similarity=COMPRESS), neck=None),
    disco=dict(
        heads=dict(embedding=DISCO, contrast=CONTRAST),
        momentum=dict(decay=0.9),
    ),
)


def make_config(folder, method='seed', on_device=False, **settings):
    views = dict(type='MultiView', num_views=[2, 1], transforms=[CROP, SMALL])
    preprocessor = dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True)
    if on_device:
        pipeline = [dict(type='LoadImage'), dict(type='PackImage')]
        preprocessor.update(
            type='MultiCropPreprocessor',
            views=[dict(num=2, size=16), dict(num=1, size=12)],
        )
    else:
        pipeline = [
            dict(type='LoadImage'),
            views,
            dict(type='PackInputs'),
        ]
        preprocessor.update(type='SelfSupDataPreprocessor')
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='Distiller',
                backbone=BACKBONE,
                teacher=dict(
                    backbone=dict(BACKBONE, norm_eval=True),
                    neck=METHODS[method].get('neck', NECK),
                    checkpoint=str(folder.parent / 'teacher.pth'),
                ),
                data_preprocessor=preprocessor,
                **{'neck': NECK, **METHODS[method]},
            ),
            train_dataloader=dict(
                batch_size=3,
                num_workers=0,
                drop_last=True,
                sampler=dict(type='DefaultSampler', shuffle=True),
                collate_fn=dict(type='default_collate'),
                dataset=dict(
                    type='UnlabelledFolder',
                    data_root=str(folder),
                    pipeline=pipeline,
                ),
            ),
            teacher_cache=dict(
                {'draws': 3, 'seed': 4, **settings},
            ),
        )
    )


def build_cache(config, path, **kwargs):
    return api.cache_by_config(config, path, batch_size=4, **kwargs)


def train(config, work_dir, max_epochs=3):
    """Return the loss terms of every iteration, and the model."""
    config = Config(config.to_dict())
    api.set_teacher_cache(config)
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    losses = []
    parse = model.parse_losses

    def spy(terms):
        losses.append({k: v.item() for k, v in terms.items()})
        return parse(terms)

    model.parse_losses = spy
    Runner(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=config.train_dataloader,
        train_cfg=dict(by_epoch=True, max_epochs=max_epochs),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.05)),
        custom_hooks=[dict(type='HealthHook')],
        default_hooks=dict(checkpoint=None, logger=None),
        randomness=dict(seed=3),
        log_level='ERROR',
        default_scope='mmpretrain',
        experiment_name=work_dir.name,
    ).train()
    return losses, model


def use(config):
    """Check and compute a loss as a run would, without the runner."""
    config = Config(config.to_dict())
    api.set_teacher_cache(config)
    model = MODELS.build(config.model)
    dataset = DATASETS.build(config.train_dataloader.dataset)
    model.check(
        TrainingPlan(batch=3, max_iters=6, epoch_length=2, dataset=dataset)
    )
    model.init_weights()
    batch = default_collate([dataset[index] for index in range(3)])
    return model(**model.data_preprocessor(batch, True), mode='loss')


@pytest.fixture
def teacher_calls(monkeypatch):
    """How often some teacher's backbone ran."""
    calls = []
    from mmpretrain.models import ResNet

    forward = ResNet.forward

    def spy(self, x):
        if self.norm_eval:  # the teacher's, by its config
            calls.append(len(x))
        return forward(self, x)

    monkeypatch.setattr(ResNet, 'forward', spy)
    return calls


@pytest.mark.parametrize(
    ('method', 'on_device'),
    [
        ('seed', False),
        ('seed', True),
        ('patches', True),
        ('compress', True),
        ('disco', False),
        ('disco', True),
    ],
)
def test_losses_are_those_of_the_teacher_itself(
    folder, tmp_path, teacher_calls, method, on_device
):
    """Six steps on the same views: every term, to 1e-5 of its value.

    Rows of the cache come from other batches than those of the training, so
    they differ by rounding.
    """
    config = make_config(folder, method, on_device)
    cache = build_cache(config, tmp_path / 'cache')
    assert cache.complete
    expected, model = train(config, tmp_path / 'plain')
    del teacher_calls[:]
    config.teacher_cache.path = str(tmp_path / 'cache')
    found, cached = train(config, tmp_path / 'cached')
    assert not teacher_calls  # the network did not run
    assert len(found) == len(expected) == 6
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for key, value in b.items():
            assert a[key] == pytest.approx(value, rel=1e-5), key
    for key, value in model.backbone.state_dict().items():
        torch.testing.assert_close(
            cached.backbone.state_dict()[key], value, rtol=1e-4, atol=1e-5
        )


def test_a_row_is_the_teacher_of_its_view(folder, tmp_path):
    """By hand, for every image and draw."""
    config = make_config(folder, on_device=True)
    cache = build_cache(config, tmp_path / 'cache')
    assert cache.arrays['embeddings'].shape == (IMAGES * 3, 2, D)
    model = MODELS.build(config.model)
    model.teacher.init_weights()
    recipe = model.data_preprocessor.recipes[0]
    mean, std = 120.0, 60.0
    for image in range(IMAGES):
        pixels = np.array(Image.open(folder / f'{image}.png'))
        pixels = torch.tensor(pixels).permute(2, 0, 1)[None] / 255.0
        for draw in range(3):
            draws = SeededDraws(torch.tensor([[4, image, draw]]))
            for view in range(2):
                x = (recipe(pixels, draws) * 255 - mean) / std
                with torch.no_grad():
                    feature = model.teacher.backbone(x)[-1].mean((2, 3))
                    z = model.teacher.neck((feature[:, :, None, None],))[0]
                row = cache.arrays['embeddings'][3 * image + draw, view]
                torch.testing.assert_close(
                    torch.from_numpy(row.copy()), z[0], rtol=1e-4, atol=1e-5
                )


def test_lookup_by_key(folder, tmp_path):
    cache = build_cache(make_config(folder), tmp_path / 'cache')
    keys = torch.tensor([[4, 5, 2], [4, 0, 1], [4, 5, 0]])
    found = cache.encodings(keys, ['embeddings'], [1])
    rows = cache.arrays['embeddings'][[17, 1, 15], 1]
    assert np.array_equal(found.embeddings[0].numpy(), rows)
    assert not found.features


def test_half_precision_on_disk(folder, tmp_path):
    full = build_cache(make_config(folder), tmp_path / 'full')
    half = build_cache(make_config(folder, dtype='float16'), tmp_path / 'half')
    a, b = (c.arrays['embeddings'] for c in (full, half))
    assert b.dtype == np.float16 and 2 * b.nbytes == a.nbytes
    assert np.array_equal(a.astype(np.float16), b)
    keys = torch.tensor([[4, 5, 2]])
    assert half.encodings(keys, ['embeddings'], [0]).embeddings[0].dtype == (
        torch.float32
    )


# --- making -----------------------------------------------------------------


def test_an_interrupted_cache_goes_on(folder, tmp_path, monkeypatch):
    config = make_config(folder)
    whole = build_cache(config, tmp_path / 'whole')
    write, calls = TeacherCache.write, []

    def interrupted(self, start, encodings):
        calls.append(start)
        if len(calls) == 3:
            raise KeyboardInterrupt
        write(self, start, encodings)

    with monkeypatch.context() as patch:
        patch.setattr(TeacherCache, 'write', interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_cache(config, tmp_path / 'cache')
    assert (
        json.loads((tmp_path / 'cache/manifest.json').read_text())['done'] == 8
    )
    used = Config(config.to_dict())
    used.teacher_cache.path = str(tmp_path / 'cache')
    with pytest.raises(SetupError, match='8 of 18 rows: complete it'):
        use(used)

    def counting(self, start, encodings):
        calls.append(start)
        write(self, start, encodings)

    del calls[:]
    monkeypatch.setattr(TeacherCache, 'write', counting)
    cache = build_cache(config, tmp_path / 'cache')
    assert calls == [8, 12, 16]
    np.testing.assert_allclose(
        cache.arrays['embeddings'],
        whole.arrays['embeddings'],
        rtol=1e-5,
        atol=1e-6,
    )
    del calls[:]
    assert build_cache(config, tmp_path / 'cache').complete
    assert not calls


@pytest.mark.parametrize(
    ('method', 'settings', 'amp', 'message'),
    [
        ('patches', {}, False, r'views \(\[0, 1\] there, \[0, 1, 2\] here'),
        ('compress', {}, False, r"fields \(\['embeddings'\] there, \['feat"),
        ('seed', dict(dtype='float16'), False, "dtype .'float32' there, "),
        ('seed', {}, True, "precision .'float32' there, 'bfloat16' here"),
    ],
)
def test_going_on_with_something_else(
    folder, tmp_path, monkeypatch, method, settings, amp, message
):
    write = TeacherCache.write

    def interrupted(self, start, encodings):
        if start:
            raise KeyboardInterrupt
        write(self, start, encodings)

    with monkeypatch.context() as patch:
        patch.setattr(TeacherCache, 'write', interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_cache(make_config(folder), tmp_path / 'cache')
    config = make_config(folder, method, **settings)
    # a teacher without neck is another one, which the hash says
    config.model.teacher.neck = NECK
    written = (tmp_path / 'cache/embeddings.npy').read_bytes()
    with pytest.raises(SetupError, match=message):
        build_cache(config, tmp_path / 'cache', amp=amp)
    assert (tmp_path / 'cache/embeddings.npy').read_bytes() == written


def test_a_complete_cache_that_lacks_something(folder, tmp_path):
    build_cache(make_config(folder), tmp_path / 'cache')
    config = make_config(folder, 'compress')
    config.model.teacher.neck = NECK
    with pytest.raises(SetupError, match=r"for field \['features'\] .* has"):
        build_cache(config, tmp_path / 'cache')
    with pytest.raises(SetupError, match="dtype .'float32' there, 'float16'"):
        build_cache(make_config(folder, dtype='float16'), tmp_path / 'cache')
    with pytest.raises(SetupError, match='precision'):
        build_cache(make_config(folder), tmp_path / 'cache', amp=True)


def test_views_are_not_plain_images(folder, tmp_path):
    """The same images by one draw of the same pipeline, for another use."""
    config = make_config(folder, draws=1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(config.model)
    model.teacher.init_weights()
    dataset = api._views(config, 'train', api.cache_settings(config))
    recipes = [
        teacher_cache.recipe_of(dataset, model.data_preprocessor, plain)
        for plain in (False, True)
    ]
    assert recipes[0].pop('plain') is False
    assert recipes[1].pop('plain') is True
    assert recipes[0] == recipes[1]
    cache = build_cache(config, tmp_path / 'cache')
    with pytest.raises(SetupError, match='plain .False there, True here'):
        cache.compare_recipe(dataset, model.data_preprocessor, plain=True)


def test_rows_of_another_shape(folder, tmp_path):
    """One view would be broadcast into both, one column into all."""
    cache = build_cache(make_config(folder), tmp_path / 'cache')
    for views, width in ((1, D), (2, 1), (0, D)):
        rows = teacher_cache.Encodings(
            embeddings=[torch.zeros(2, width)] * views
        )
        with pytest.raises(ValueError, match='rows from 3 on'):
            cache.write(3, rows)


def test_a_disk_that_is_too_small(folder, tmp_path, monkeypatch):
    usage = namedtuple('usage', 'total used free')(10, 10, 100)
    monkeypatch.setattr(teacher_cache.shutil, 'disk_usage', lambda path: usage)
    with pytest.raises(SetupError, match='18 rows.*take fewer draws'):
        build_cache(make_config(folder), tmp_path / 'cache')
    assert not (tmp_path / 'cache' / 'manifest.json').exists()


def test_rows_that_are_not_finite(folder, tmp_path, monkeypatch):
    cache = build_cache(make_config(folder), tmp_path / 'cache')
    bad = teacher_cache.Encodings(
        embeddings=[torch.full((2, D), torch.inf)] * 2
    )
    with pytest.raises(FloatingPointError, match='rows 3 to 4'):
        cache.write(3, bad)


def take_the_teacher_away(model):
    model.pop('teacher')
    model.heads = dict(contrast=CONTRAST)
    model.momentum = 0.9


def imitate(model):
    model.teacher.imitate_train_mode = True


def ask_for_maps(model):
    model.heads = dict(attention=dict(type='AttentionTransferHead'))
    model.neck = None


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (take_the_teacher_away, 'there is nothing to keep'),
        (imitate, 'cannot be kept'),
        (ask_for_maps, r"ask for \['feature_maps'\]"),
    ],
)
def test_nothing_to_keep(folder, tmp_path, change, message):
    config = make_config(folder)
    change(config.model)
    with pytest.raises(SetupError, match=message):
        build_cache(config, tmp_path / 'cache')


def test_settings(folder, tmp_path):
    with pytest.raises(ValueError, match=r"unknown key\(s\) \['draw'\]"):
        api.set_teacher_cache(make_config(folder, draw=3))
    with pytest.raises(ValueError, match='--out-dir, or teacher_cache'):
        api.cache_by_config(make_config(folder))
    with pytest.raises(SetupError, match='dtype=.float64.'):
        build_cache(make_config(folder, dtype='float64'), tmp_path / 'cache')
    config = make_config(folder)
    config.model.pop('teacher')
    with pytest.raises(ValueError, match='no model.teacher: remove it'):
        api.set_teacher_cache(config)
    config = make_config(folder, path='some/where')
    for _ in range(2):  # a second time changes nothing
        api.set_teacher_cache(config)
        data = config.train_dataloader.dataset
        assert (data.draws, data.seed) == (3, 4)
        assert data.dataset.type == 'UnlabelledFolder'
        assert config.model.teacher.cache == 'some/where'
    config = make_config(folder)
    config.teacher_cache = None
    api.set_teacher_cache(config)
    assert config.train_dataloader.dataset.type == 'UnlabelledFolder'


# --- what is refused --------------------------------------------------------


def change_teacher(config, folder):
    config.model.teacher.backbone.norm_cfg = dict(type='BN', eps=1e-3)


def change_teachers_weights(config, folder):
    save_teacher(folder, change=1e-6)


def change_teachers_input(config, folder):
    config.model.teacher.update(mean=[100.0] * 3, std=[60.0] * 3)


def change_pipeline(config, folder):
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline[1].transforms[0][0].scale = 17


def change_preprocessor(config, folder):
    config.model.data_preprocessor.std = [61.0] * 3


def change_draws(config, folder):
    config.teacher_cache.draws = 2


def change_seed(config, folder):
    config.teacher_cache.seed = 5


def lose_an_image(config, folder):
    shutil.copy(folder / '0.png', folder / '9.png')
    (folder / '2.png').unlink()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (change_teacher, 'is of another teacher: its teacher has SHA-256'),
        (change_teachers_weights, 'another teacher'),
        (change_teachers_input, 'another teacher'),
        (change_pipeline, 'another recipe of views, .* pipelines'),
        (change_preprocessor, r'differs in preprocessor .*61\.0'),
        (change_draws, r'differs in draws \(3 there, 2 here\)'),
        (change_seed, r'differs in seed \(4 there, 5 here\)'),
        (lose_an_image, 'is of another list of images'),
    ],
)
def test_a_cache_of_something_else(folder, tmp_path, change, message):
    """In training, and when it is to be completed."""
    path = str(tmp_path / 'cache')
    build_cache(make_config(folder), path)
    config = make_config(folder, path=path)
    change(config, folder)
    with pytest.raises(SetupError, match=message):
        use(config)
    with pytest.raises(SetupError, match='is of another'):
        build_cache(config, path)


def test_other_device_side_views(folder, tmp_path):
    path = str(tmp_path / 'cache')
    build_cache(make_config(folder, on_device=True), path)
    config = make_config(folder, on_device=True, path=path)
    config.model.data_preprocessor.views[0].grey_prob = 0.3
    with pytest.raises(SetupError, match=r'preprocessor .*0\.3'):
        use(config)


def test_a_folder_without_a_cache(folder, tmp_path):
    config = make_config(folder, path=str(tmp_path / 'none'))
    with pytest.raises(SetupError, match='no teacher cache in .*none'):
        use(config)
    cache = build_cache(make_config(folder), tmp_path / 'cache')
    np.save(cache.folder / 'embeddings.npy', np.zeros((3, 2, D)))
    with pytest.raises(SetupError, match=r'shape \(3, 2, 8\), not \(18, 2'):
        TeacherCache(cache.folder)
    (cache.folder / 'embeddings.npy').write_bytes(b'nothing')
    with pytest.raises(SetupError, match='cannot be read'):
        TeacherCache(cache.folder)


def test_heads_that_ask_for_more(folder, tmp_path):
    path = str(tmp_path / 'cache')
    build_cache(make_config(folder), path)
    config = make_config(folder, 'patches', path=path)
    with pytest.raises(SetupError, match=r'ask for view \[2\]'):
        use(config)


def test_views_that_are_not_drawn_in_advance(folder, tmp_path):
    path = str(tmp_path / 'cache')
    build_cache(make_config(folder), path)
    config = make_config(folder)
    config.teacher_cache = None
    config.model.teacher.cache = path
    with pytest.raises(SetupError, match='data set is UnlabelledFolder'):
        use(config)
    model = MODELS.build(config.model)
    views = [torch.rand(2, 3, 16, 16) for _ in range(2)]
    with pytest.raises(SetupError, match='not compared with the data'):
        model.loss(views)
    model.teacher._cached = TeacherCache(path)
    model.teacher._cache_is_ours = True
    with pytest.raises(SetupError, match='have no view keys'):
        model.loss(views)


def test_teachers_that_change(folder):
    teacher = make_config(folder).model.teacher
    for change in (
        dict(frozen=False, checkpoint=None),
        dict(imitate_train_mode=True),
    ):
        with pytest.raises(ValueError, match="cache='here'"):
            MODELS.build(dict(teacher, type='Teacher', cache='here', **change))


def test_identity_is_that_of_the_weights(folder, tmp_path):
    def build(**kwargs):
        config = make_config(folder).model.teacher
        teacher = MODELS.build(dict(config, type='Teacher', **kwargs))
        teacher.init_weights()
        return teacher

    first, second = build(), build()
    assert first.identity() == second.identity()
    with torch.no_grad():
        second.neck.mlp[0].bias[3] += 1e-6
    assert first.identity() != second.identity()
    buffers = build()
    buffers.backbone.bn1.running_var[1] = 1.5
    assert first.identity() != buffers.identity()
    assert first.identity() != build(input_size=20).identity()
    shutil.copy(folder.parent / 'teacher.pth', tmp_path / 'moved.pth')
    moved = build(checkpoint=str(tmp_path / 'moved.pth'))
    assert first.identity() == moved.identity()
