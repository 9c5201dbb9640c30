import importlib.util
import json
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from mmpretrain.utils import register_all_modules
from PIL import Image
from sklearn.manifold import TSNE

from mmssd.evaluation.cluster_alignment import cluster_alignment
from mmssd.evaluation.features import check_classes, extract_features
from mmssd.evaluation.from_config import (
    build_network,
    features_by_config,
    labelled_sets,
)
from mmssd.evaluation.knn import (
    accuracies,
    knn_accuracy,
    majority_classify,
    unit_rows,
)
from mmssd.evaluation.linear_probe import linear_probe, stratified_subset
from mmssd.visualization.networks import build_sets

TOOLS = Path(__file__).parents[2] / 'tools' / 'analysis'


@DATASETS.register_module()
class ConfigTestImages(BaseDataset):
    """Noise around one grey level per class."""

    def __init__(self, num, seed, labelled=True, **kwargs):
        self.num, self.seed, self.labelled = num, seed, labelled
        super().__init__(pipeline=[dict(type='PackInputs')], **kwargs)

    def load_data_list(self):
        rng = np.random.RandomState(self.seed)
        items = []
        for i in range(self.num):
            image = 60 + 50 * (i % 3) + rng.randint(-50, 50, (8, 8, 3))
            item = dict(img=image.astype(np.uint8))
            if self.labelled:
                item['gt_label'] = i % 3
            items.append(item)
        return items


def images(num, seed, **kwargs):
    return dict(type='ConfigTestImages', num=num, seed=seed, **kwargs)


def make_config(**kwargs):
    config = dict(
        default_scope='mmpretrain',
        model=dict(
            type='ImageClassifier',
            backbone=dict(
                type='ResNet_CIFAR', depth=18, stem_channels=4, base_channels=4
            ),
        ),
        data_preprocessor=dict(mean=[128.0] * 3, std=[64.0] * 3),
        custom_hooks=[
            dict(type='HealthHook'),
            dict(type='KNNProbeHook', bank=images(30, 1), query=images(12, 2)),
        ],
    )
    return Config({**config, **kwargs})


@pytest.fixture(autouse=True)
def registered():
    register_all_modules(init_default_scope=False)


@pytest.fixture
def trained(tmp_path):
    """A checkpoint with weights that no initialisation gives."""
    config = make_config()
    model = MODELS.build(
        dict(config.model, data_preprocessor=config.data_preprocessor)
    )
    generator = torch.Generator().manual_seed(3)
    for p in model.parameters():
        p.data = 0.2 * torch.randn(p.shape, generator=generator)
    path = tmp_path / 'epoch_1.pth'
    torch.save(dict(meta={}, state_dict=model.state_dict()), path)
    return model, str(path)


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


def test_features_are_those_of_the_checkpoint(trained):
    model, path = trained
    found = features_by_config(make_config(), path, batch_size=7)
    for name, config in (('bank', images(30, 1)), ('query', images(12, 2))):
        expected, labels = extract_features(model, DATASETS.build(config))
        torch.testing.assert_close(found[name][0], expected)
        assert torch.equal(found[name][1], labels)


def test_sets_on_top_come_first():
    config = make_config(
        bank=images(4, 5), query=dict(dataset=images(3, 6), batch_size=2)
    )
    sets = labelled_sets(config)
    assert (sets['bank'].num, sets['query'].num) == (4, 3)
    assert labelled_sets(make_config())['bank'].num == 30
    with pytest.raises(ValueError, match='names no labelled images'):
        labelled_sets(make_config(custom_hooks=[]))


def test_untrained_network_is_said(caplog):
    config = make_config()
    with caplog.at_level('WARNING'):
        first = build_network(config, None)
    assert not first.training
    assert first.data_preprocessor.mean.flatten().tolist() == [128.0] * 3
    assert 'data_preprocessor' not in config.model


def test_wrong_checkpoints(tmp_path, trained):
    model, path = trained
    with pytest.raises(FileNotFoundError, match=r'none\.pth'):
        build_network(make_config(), tmp_path / 'none.pth')
    state = model.state_dict()
    other = {k.replace('backbone', 'trunk'): v for k, v in state.items()}
    torch.save(dict(state_dict=other), tmp_path / 'other.pth')
    with pytest.raises(ValueError, match=r'has no keys backbone\.\*'):
        build_network(make_config(), tmp_path / 'other.pth')
    state.pop('backbone.conv1.weight')
    torch.save(dict(state_dict=state), tmp_path / 'cut.pth')
    with pytest.raises(ValueError, match=r'missing key\(s\): conv1.weight'):
        build_network(make_config(), tmp_path / 'cut.pth')
    with pytest.raises(ValueError, match="part='teacher': the Image"):
        build_network(make_config(), None, 'teacher')
    with pytest.raises(ValueError, match="part='tutor'"):
        build_network(make_config(), path, 'tutor')


@pytest.fixture
def run(tmp_path, trained):
    """A checkpoint whose three networks differ."""
    model, _ = trained
    state = {
        f'{prefix}{key}': value * scale
        if value.is_floating_point() and value.dim()
        else value
        for prefix, scale in (('', 1), ('teacher.', 0.5), ('momentum.', 0.8))
        for key, value in model.state_dict().items()
        if key.startswith('backbone.')
    }
    torch.save(dict(state_dict=state), tmp_path / 'run.pth')
    return str(tmp_path / 'run.pth'), state


@pytest.mark.parametrize('part', ['teacher', 'momentum'])
def test_a_classifier_gets_the_part_of_a_run(run, trained, part, tmp_path):
    path, state = run
    model, _ = trained
    config = make_config()  # without a teacher, as configs/transfer/features
    found = features_by_config(config, path, part)
    student = features_by_config(config, path)['query'][0]
    start = f'{part}.backbone.'
    model.backbone.load_state_dict(
        {
            key.removeprefix(start): value
            for key, value in state.items()
            if key.startswith(start)
        }
    )
    expected, labels = extract_features(model, DATASETS.build(images(12, 2)))
    torch.testing.assert_close(found['query'][0], expected)
    assert torch.equal(found['query'][1], labels)
    assert not torch.allclose(student, expected, atol=1e-3)
    state = {k: v for k, v in state.items() if not k.startswith(start)}
    torch.save(dict(state_dict=state), tmp_path / 'other.pth')
    other = 'momentum' if part == 'teacher' else 'teacher'
    with pytest.raises(
        ValueError,
        match=rf'has no keys {part}\.backbone\.\*: its parts are student, '
        f'{other}',
    ):
        features_by_config(config, tmp_path / 'other.pth', part)


def test_knn_tool_of_a_teacher(run, config_file, capsys):
    load_tool('knn').main(
        [config_file, run[0], '--part', 'teacher', '--device', 'cpu']
    )
    result = json.loads(capsys.readouterr().out)
    config = make_config(bank=images(60, 1), query=images(12, 2))
    found = features_by_config(config, run[0], 'teacher')
    expected = knn_accuracy(*found['bank'], *found['query'])
    assert result['top1_by_k'] == {'20': pytest.approx(expected)}
    assert result['part'] == 'teacher'


def test_labels_are_needed(trained):
    config = make_config(bank=images(4, 5), query=images(3, 6, labelled=False))
    with pytest.raises(ValueError, match='the query set .* has no labels'):
        features_by_config(config, trained[1])


def test_labels_that_mean_other_classes(trained, tmp_path):
    """Folders a, b, c and b, c: the labels would be 0, 1, 2 and 0, 1."""
    for folder in ('bank/a', 'bank/b', 'bank/c', 'query/b', 'query/c'):
        (tmp_path / folder).mkdir(parents=True)
        pixels = np.zeros((8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / folder / '0.png')
    pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
    config = make_config(
        **{
            name: dict(
                type='CustomDataset',
                data_root=str(tmp_path / name),
                pipeline=pipeline,
            )
            for name in ('bank', 'query')
        }
    )
    with pytest.raises(
        ValueError,
        match='the bank set has 3 classes, the query set 2, and they differ: '
        "label 0 means 'a' in the one and 'b' in the other",
    ):
        features_by_config(config, trained[1])
    with pytest.raises(ValueError, match="label 0 means 'a'"):
        build_sets(config)
    build_sets(config, ['query'])
    (tmp_path / 'query/a').mkdir()  # an empty folder is a class, too
    found = features_by_config(config, trained[1])
    assert found['bank'][1].tolist() == [0, 1, 2]
    assert found['query'][1].tolist() == [1, 2]
    shorter = types.SimpleNamespace(metainfo=dict(classes=('a', 'b')))
    longer = types.SimpleNamespace(metainfo=dict(classes=['a', 'b', 'c']))
    check_classes(dict(one=shorter, other=object(), third=shorter))
    with pytest.raises(ValueError, match="label 2 means no class .* 'c' in"):
        check_classes(dict(one=shorter, other=object(), third=longer))


def load_tool(name):
    spec = importlib.util.spec_from_file_location(
        f'analysis_{name}', TOOLS / f'{name}.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config_file(tmp_path):
    path = tmp_path / 'config.py'
    make_config(bank=images(60, 1), query=images(12, 2)).dump(path)
    return str(path)


def test_knn_tool(tmp_path, config_file, trained, capsys):
    _, checkpoint = trained
    out = tmp_path / 'knn.out'
    load_tool('knn').main(
        [config_file, checkpoint, '--k', '1', '5', '--device', 'cpu']
        + ['--out', str(out), '--cfg-options', 'bank.num=30']
    )
    printed = capsys.readouterr().out
    assert out.read_text() == printed
    result = json.loads(printed)
    found = features_by_config(make_config(), checkpoint)
    expected = {
        str(k): knn_accuracy(*found['bank'], *found['query'], k)
        for k in (1, 5)
    }
    assert result['top1_by_k'] == pytest.approx(expected)
    assert (result['bank'], result['query']) == (30, 12)
    assert result['checkpoint'] == checkpoint


def test_linear_probe_tool(config_file, trained, capsys):
    _, checkpoint = trained
    load_tool('linear_probe').main(
        [config_file, checkpoint, '--fraction', '0.2', '1', '--seeds', '2']
        + ['--device', 'cpu']
    )
    results = json.loads(capsys.readouterr().out)['results']
    assert [(r['fraction'], r['seed'], r['rows']) for r in results] == [
        (0.2, 0, 12),
        (0.2, 1, 12),
        (1.0, 0, 60),
    ]
    config = make_config(bank=images(60, 1), query=images(12, 2))
    found = features_by_config(config, checkpoint)
    (x, y), test = found['bank'], found['query']
    rows = stratified_subset(y, fraction=0.2, seed=1)
    expected = linear_probe(x[rows], y[rows], *test, seed=1)
    assert results[1]['top1'] == pytest.approx(expected['top1'])
    assert results[1]['weight_decay'] == expected['weight_decay']


def features_of(rows, width, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(rows) % 3
    x = torch.randn(rows, width, generator=generator)
    return x + labels[:, None], labels


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('knn', 'of the network and of what is done with its features;'),
        ('linear_probe', 'and of what is done with its features;'),
        ('cluster_alignment', 'of the network (k-means runs on the CPU);'),
        (
            '../dataset_converters/pseudo_labels',
            'of the network (k-means runs on the CPU);',
        ),
    ],
)
def test_help_says_what_runs_on_the_device(name, said, capsys):
    with pytest.raises(SystemExit):
        load_tool(name).main(['--help'])
    assert said in ' '.join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ('name', 'function', 'flags'),
    [
        ('knn', 'knn_classify', []),
        ('knn', 'majority_classify', ['--majority']),
        ('linear_probe', 'linear_probe', ['--fraction', '0.5', '1']),
    ],
)
def test_features_are_worked_on_where_the_network_ran(
    name, function, flags, config_file, monkeypatch, capsys
):
    """The meta device stands for one that is not the CPU."""
    tool = load_tool(name)
    found = dict(bank=features_of(60, 5, 0), query=features_of(12, 5, 1))
    monkeypatch.setattr(tool.cli, 'read_features', lambda args: found)
    original, seen = getattr(tool, function), []

    def on_the_cpu(train_x, train_y, *rest):
        rest = list(rest)
        places = [train_x, train_y, *(v for v in rest if hasattr(v, 'device'))]
        seen.append({tensor.device.type for tensor in places})
        rows = len(train_x)
        rest[0] = found['query'][0]
        if function == 'linear_probe':
            rest[1] = found['query'][1]
        return original(*(v[:rows] for v in found['bank']), *rest)

    monkeypatch.setattr(tool, function, on_the_cpu)
    monkeypatch.setattr(
        tool,
        'accuracies',
        lambda guess, _: accuracies(guess, found['query'][1]),
        raising=False,
    )
    tool.main([config_file, '--device', 'meta', *flags])
    assert seen and all(places == {'meta'} for places in seen)


def test_tools_refuse_readably(config_file, tmp_path, capsys):
    missing = str(tmp_path / 'none.pth')
    for tool in ('knn', 'linear_probe'):
        with pytest.raises(SystemExit) as error:
            load_tool(tool).main([config_file, missing, '--device', 'cpu'])
        assert error.value.code == 1
        assert 'none.pth' in capsys.readouterr().err


def test_knn_tool_by_majority(config_file, trained, capsys):
    _, checkpoint = trained
    load_tool('knn').main(
        [config_file, checkpoint, '--k', '1', '3', '--majority']
        + ['--device', 'cpu']
    )
    result = json.loads(capsys.readouterr().out)
    config = make_config(bank=images(60, 1), query=images(12, 2))
    found = features_by_config(config, checkpoint)
    query, labels = found['query']
    for k in (1, 3):
        guess = majority_classify(*found['bank'], query, k)
        expected = accuracies(guess, labels)
        assert result['top1_by_k'][str(k)] == expected['top1']
        assert result['class_mean_by_k'][str(k)] == expected['class_mean']
    assert (result['vote'], result['temperature']) == ('majority', None)


def test_cluster_alignment_tool(config_file, trained, capsys):
    _, checkpoint = trained
    load_tool('cluster_alignment').main(
        [config_file, checkpoint, '--seeds', '2', '--device', 'cpu']
    )
    results = json.loads(capsys.readouterr().out)['results']
    config = make_config(bank=images(60, 1), query=images(12, 2))
    found = features_by_config(config, checkpoint)
    expected = cluster_alignment(*found['bank'], *found['query'], seed=1)
    assert results[1] == dict(seed=1, **expected)


def test_tsne_tool(config_file, trained, tmp_path, capsys, monkeypatch):
    tool = load_tool('tsne')
    drawn, draw_points = {}, tool.draw_points

    def recorded(panels, labels, path, classes, title):
        drawn.update(panels=panels, labels=labels, title=title)
        draw_points(panels, labels, path, classes, title)

    monkeypatch.setattr(tool, 'draw_points', recorded)
    picture = tmp_path / 'tsne.png'
    base = ['--network', 'one', config_file, trained[1], '--device', 'cpu']
    base += ['--out', str(picture)]
    more = ['--network', 'two', config_file, 'random']
    tool.main([*base, *more, '--perplexity', '3'])
    assert capsys.readouterr().out.strip() == str(picture)
    width, height = Image.open(picture).size
    assert width > 1.8 * height  # two panels
    assert [title.split('\n')[0] for title in drawn['panels']] == [
        'one',
        'two',
    ]
    assert drawn['title'].startswith('t-SNE of the features of 12 images')
    assert drawn['labels'].tolist() == [i % 3 for i in range(12)]
    config = make_config(bank=images(60, 1), query=images(12, 2))
    features, _ = features_by_config(config, trained[1])['query']
    unit = unit_rows('features', features).numpy()
    expected = TSNE(perplexity=3.0, random_state=0).fit(unit)
    one = next(iter(drawn['panels']))
    assert one == f'one\ndivergence {expected.kl_divergence_:.2f}'
    # any rounding would end elsewhere
    np.testing.assert_array_equal(drawn['panels'][one], expected.embedding_)
    for wrong, message in (
        ([], 'below the number of images, 12'),
        (['--network', 'one', config_file, 'random'], 'a name of its own'),
        (['--network', 'two', config_file, 'no.pth'], 'no checkpoint no.pth'),
    ):
        with pytest.raises(SystemExit):
            tool.main([*base, *wrong])
        assert message in capsys.readouterr().err
