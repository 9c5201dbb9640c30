"""The benchmark runs the same networks on both sides, and counts right."""

import importlib.util
import json
import time
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS, MODELS
from PIL import Image

from mmssd.apis import benchmark
from mmssd.apis.config import load_config
from mmssd.models.distillers.distiller import Distiller

ROOT = Path(__file__).parents[2]
DEMO = (
    ROOT
    / 'configs/demo/oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'
)
PAPER = (
    ROOT / 'configs/oss/off-kd-drop_resnet18-resnet50_8xb32-coslr-130e_in1k.py'
)
SEED = ROOT / 'configs/seed/seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py'
MOCO = ROOT / 'configs/demo/mocov2_resnet18w4_1xb256-coslr-700i_garments.py'
TINY = ['--data', 'memory', '--images', '16', '--batch-size', '4']
TINY += ['--rounds', '2', '--steps', '1']


@pytest.fixture(scope='module')
def tool():
    path = ROOT / 'tools/benchmarks/throughput.py'
    spec = importlib.util.spec_from_file_location('throughput', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def prepare(tool, arguments, folder, model=None):
    """What is timed; models that are built go into a list, if given."""
    args = tool.parse_args(arguments)
    cfg = tool.load(args, args.batch_size[0], str(folder))
    build = tool.build

    def keep(*args):
        model.append(build(*args))
        return model[-1]

    with pytest.MonkeyPatch.context() as patch:
        if model is not None:
            patch.setattr(tool, 'build', keep)
        return tool.prepare(args, cfg)


LAYERS = (torch.nn.Conv2d, torch.nn.BatchNorm1d, torch.nn.Linear)


def calls_of(function, model, monkeypatch):
    """Shapes of the inputs of all layers of the networks."""
    seen = []
    heads = set(benchmark.objectives(model).modules())

    def spy(name, wrapped):
        def count(self, x):
            if self not in heads:
                seen.append((name, tuple(x.shape), torch.is_grad_enabled()))
            return wrapped(self, x)

        return count

    with monkeypatch.context() as patch:
        for kind in LAYERS:
            patch.setattr(kind, 'forward', spy(kind.__name__, kind.forward))
        function()
    return seen


def demo(method):
    return str(next((ROOT / 'configs/demo').glob(f'{method}_resnet18w4*.py')))


CRD = ROOT / 'configs/baselines/crd_resnet18-swav-resnet50_8xb32-130e_in1k.py'
DANN = ROOT / 'configs/oss/oss_resnet18-resnet50_dann_8xb32-coslr-800e_in1k.py'
KD = ROOT / 'configs/disco/kd_resnet18-resnet50_8xb32-steplr-100e_in1k.py'
OFD = ROOT / 'configs/demo'
OFD /= 'ofd_resnet18w8-resnet18w8_1xb50-coslr-30e_garments-50.py'
SMALL = ['--batch-size', '4', '--views']
METHODS = dict(
    online=([str(DEMO), '--batch-size', '4'], 'Linear'),
    frozen=(
        [str(PAPER), '--batch-size', '2', '--views', '2x64', '2x32'],
        'BatchNorm1d',
    ),
    momentum=([str(MOCO), '--batch-size', '4'], 'Linear'),
    seed=([demo('seed'), '--batch-size', '4'], 'Linear'),
    disco=([demo('disco'), '--batch-size', '4'], 'Linear'),
    crd=(
        [str(CRD), *SMALL, '1x32', '--cfg-options']
        + ['model.heads.contrast.num_images=3']
        + ['model.heads.contrast.num_noise=5'],
        'Conv2d',
    ),
    dann=([str(DANN), *SMALL, '2x32'], 'Linear'),
    kd=([str(KD), *SMALL, '1x32'], 'Linear'),
    ofd=([str(OFD), *SMALL, '1x32'], 'Linear'),
)


@pytest.mark.parametrize(
    ('arguments', 'kind'), METHODS.values(), ids=METHODS.keys()
)
def test_limit_and_step_run_the_same_layers(
    tool, monkeypatch, arguments, kind, tmp_path
):
    """Of backbones, projectors and classifiers; those of heads apart."""
    models = []
    timed = prepare(tool, arguments, tmp_path, models)
    limit = calls_of(timed['limit'], models[0], monkeypatch)
    step = calls_of(timed['step'], models[0], monkeypatch)
    assert len(limit) >= 20
    assert kind in {name for name, *_ in limit}
    assert sorted(limit) == sorted(step)


def test_the_limit_gets_ready_made_gradients(tool, tmp_path):
    """Where an objective reads whole maps, no function of them is taken."""
    config = (
        ROOT / 'configs/disco/at_resnet18-resnet50_8xb32-coslr-200e_in1k.py'
    )
    arguments = [str(config), '--batch-size', '2', '--views', '2x32']
    models = []
    prepare(tool, arguments, tmp_path, models)
    (model,) = models
    views = [torch.randn(2, 3, 32, 32) for _ in range(2)]
    networks = benchmark.NetworksAlone(model)
    networks(views)
    first = [gradient.clone() for gradient in networks.gradients]
    weights = list(model.backbone.parameters())
    found = torch.autograd.grad(networks(views), weights)
    outputs = benchmark.run_networks(model, views)
    assert len({output.shape[1:] for output in outputs}) > 1  # several maps
    expected = torch.autograd.grad(outputs, weights, first)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    assert any(gradient.abs().sum() > 0 for gradient in found)
    function = networks(views).grad_fn
    assert type(function).__name__ == '_GivenBackward'


DINO = ROOT / 'configs/baselines/dino_vit-tiny_8xb64-coslr-100e_in1k.py'
BROUGHT = dict(
    dino=(
        [str(DINO), '--batch-size', '2', '--views', '2x224', '1x96']
        + ['--cfg-options', 'model.heads.dino.num_prototypes=7'],
        [(2, 7)] * 3,
        {'dino.last_layer.parametrizations.weight.original1'},
    ),
    ofd=(
        METHODS['ofd'][0],
        [(4, 8, 8, 8), (4, 16, 4, 4), (4, 32, 2, 2), (4, 64, 1, 1)],
        {
            f'overhaul.connectors.{stage}.{name}'
            for stage in range(4)
            for name in ('0.weight', '1.weight', '1.bias')
        },
    ),
    seed=(METHODS['seed'][0], [], set()),
)


@pytest.mark.parametrize(
    ('arguments', 'shapes', 'names'), BROUGHT.values(), ids=BROUGHT.keys()
)
def test_layers_of_heads_can_count_as_networks(
    tool, arguments, shapes, names, tmp_path, monkeypatch
):
    """They run in the limit, and are learned there, if that is asked for."""
    run = benchmark.run_networks
    outputs = []
    monkeypatch.setattr(
        benchmark,
        'run_networks',
        lambda *args: outputs.append(run(*args)) or outputs[-1],
    )
    for flags in ([], ['--head-layers']):
        models = []
        timed = prepare(tool, [*arguments, *flags], tmp_path, models)
        heads = benchmark.objectives(models[0])
        before = {k: p.clone() for k, p in heads.named_parameters()}
        timed['limit']()
        changed = {
            name
            for name, p in heads.named_parameters()
            if not torch.equal(p, before[name])
        }
        assert changed == (names if flags else set())
    plain, brought = ([tuple(o.shape) for o in found] for found in outputs)
    assert brought == [*plain, *shapes]


def test_a_run_is_in_the_midst_of_a_training_as_a_step_is(tool, tmp_path):
    """Queues are in use, prototypes train, also where epochs are long."""
    args = tool.parse_args([str(DEMO), *TINY])
    cfg = tool.load(args, 4, str(tmp_path))
    head = cfg.model.heads.clustering
    head.queue_start, head.freeze_prototypes = dict(epochs=9), 10**6
    loop = benchmark.stepped_loop(cfg, tmp_path, 'midway')
    step = tool.build(cfg, torch.device('cpu'))
    for model in (loop.runner.model, step):
        head = model.heads['clustering']
        assert head.queue_start.iterations == 0
        assert head.freeze_prototypes.iterations == 0


# --- arithmetic -------------------------------------------------------------


def test_medians_ratios_and_throughput():
    """Three rounds of two steps with eight images each."""
    rows = benchmark.summarise(
        dict(limit=[0.2, 0.4, 0.3], step=[0.22, 0.36, 0.6]),
        steps=2,
        images=8,
        peaks=dict(limit=[None, None, None], step=[5.0, 9.0, 7.0]),
    )
    assert rows['limit'] == dict(
        steps=2,
        median_ms=pytest.approx(150),
        least_ms=pytest.approx(100),
        most_ms=pytest.approx(200),
        images_per_s=pytest.approx(8 / 0.15),
        ratio_of_medians=1.0,
        median_of_ratios=1.0,
        peak_mib=None,
    )
    # by round 1.1, 0.9, 2.0
    assert rows['step']['median_of_ratios'] == pytest.approx(1.1)
    assert rows['step']['ratio_of_medians'] == pytest.approx(1.2)
    assert rows['step']['median_ms'] == pytest.approx(180)
    assert rows['step']['peak_mib'] == 9.0
    alone = benchmark.summarise(dict(run=[0.1]), 1, 8)
    assert alone['run']['median_of_ratios'] is None
    # other steps in a round: 0.1 and 0.05 s each
    rows = benchmark.summarise(
        dict(limit=[0.2], run=[0.2]), dict(limit=2, run=4), 8
    )
    assert rows['run']['median_ms'] == pytest.approx(50)
    assert rows['run']['ratio_of_medians'] == pytest.approx(0.5)
    assert rows['run']['median_of_ratios'] == pytest.approx(0.5)


def test_rounds_go_in_turn_after_one_of_warming_up():
    calls, rests, ticks = [], [], iter(range(100))
    rows = benchmark.measure(
        dict(limit=lambda: calls.append('l'), run=lambda: calls.append('r')),
        rounds=2,
        steps=3,
        images=1,
        before=dict(run=lambda: calls.append('d')),
        counts=dict(run=4),
        after=dict(run=lambda seconds: rests.append(seconds)),
        clock=lambda: next(ticks),
    )
    # one round to warm up, two that count
    assert ''.join(calls) == 'llldrrrrllldrrrrllldrrrr'
    assert [rows[name]['steps'] for name in ('limit', 'run')] == [3, 4]
    assert rests == [0.25] * 3  # a tick for four steps


def test_another_clock():
    ticks = iter(range(100))
    rows = benchmark.measure(
        dict(limit=lambda: None), 3, 1, 1, clock=lambda: next(ticks)
    )
    assert rows['limit']['median_ms'] == 1000


def test_peak_of_memory():
    benchmark.reset_peak()
    before = benchmark.peak_mib()
    if before is None:
        pytest.skip('the system does not tell')
    # large beside what the system may take back from the tests at any time
    block = np.ones(512 * 2**20, dtype=np.uint8)
    after = benchmark.peak_mib()
    del block
    assert 384 < after - before < 576
    benchmark.reset_peak()
    assert benchmark.peak_mib() < after - 384


def test_peak_on_a_gpu_leaves_out_what_was_there(monkeypatch):
    cuda = dict(
        is_available=lambda: True,
        synchronize=lambda: None,
        reset_peak_memory_stats=lambda: None,
        memory_allocated=lambda: 300 * 2**20,  # other sides' models
        max_memory_allocated=lambda: 420 * 2**20,
    )
    for name, function in cuda.items():
        monkeypatch.setattr(torch.cuda, name, function)
    rows = benchmark.measure(dict(limit=lambda: None), 1, 1, 1)
    assert rows['limit']['peak_mib'] == 120


class SleepyImages(torch.utils.data.Dataset):
    """Every image takes its time."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __len__(self):
        return 10**6

    def __getitem__(self, index):
        time.sleep(self.seconds)
        return index


def loop_over(loader):
    loop = object.__new__(benchmark.SteppedTrainLoop)
    loop.__dict__['_dataloader'] = loop.dataloader = loader
    loop.dataloader_iterator = iter(loader)
    return loop


@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_workers_are_timed_in_their_rhythm(monkeypatch):
    """Four that sleep 0.3 s for a batch: 0.075 s a step, not 0.3 / 3."""
    loader = torch.utils.data.DataLoader(
        SleepyImages(0.3), batch_size=1, num_workers=4
    )
    loop = loop_over(loader)
    assert loop.ahead == 8
    assert [loop.whole(steps) for steps in (1, 3, 4, 5)] == [4, 4, 4, 8]
    rows = benchmark.measure(
        dict(data=loop.fetch),
        rounds=2,
        steps=3,
        images=1,
        before=dict(data=lambda: loop.settle(loop.fetch)),
        counts=dict(data=loop.whole(3)),
    )
    # 300 over four workers; not what they had ready, nor a start together
    assert 70 < rows['data']['median_ms'] < 100
    alone = loop_over(torch.utils.data.DataLoader(SleepyImages(0)))
    assert (alone.ahead, alone.whole(3)) == (0, 3)
    waited = []
    monkeypatch.setattr(time, 'sleep', waited.append)
    alone.rest(0.5)
    loop.rest(0.5)  # eight batches ahead
    assert waited == [4.0]


def test_images_never_end(tool, tmp_path, monkeypatch):
    """mmengine sleeps at the end of an epoch."""
    args = tool.parse_args([str(DEMO), *TINY])
    cfg = tool.load(args, 4, str(tmp_path))
    cfg.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    loop = benchmark.stepped_loop(cfg, tmp_path, 'endless')
    monkeypatch.setattr(time, 'sleep', lambda seconds: pytest.fail('waits'))
    for _ in range(9):  # two epochs
        loop.fetch()


def test_whole_name_of_the_processor():
    text = 'processor : 0\ncpu family : 25\nmodel\t\t: 17\n'
    text += 'model name : AMD EPYC\nstepping : 1\n\nmodel : 18\n'
    assert benchmark._cpu_model(text) == (
        'AMD EPYC (family 25, model 17, stepping 1)'
    )
    assert benchmark._cpu_model('model name : Arm 9\n') == 'Arm 9'


def test_parts_add_up_and_leave_no_trace():
    class Thing:
        def work(self, kind):
            time.sleep(0.02)
            return kind

    thing, parts = Thing(), benchmark.Parts()
    parts.watch(thing, 'work', lambda kind: f'work {kind}')
    assert [thing.work(kind) for kind in 'aab'] == ['a', 'a', 'b']
    parts.release()
    thing.work('a')
    assert set(parts.seconds) == {'work a', 'work b'}
    assert 0.04 <= parts.seconds['work a'] < 1
    assert 'work' not in vars(thing)


def test_a_part_within_a_part_counts_once():
    now = [0.0]

    def spend(seconds):
        now[0] += seconds

    parts, place = benchmark.Parts(lambda: now[0]), types.ModuleType('place')
    place.inner = spend
    parts.watch(place, 'inner', 'inner')
    with parts.timing('outer'):
        spend(1)
        place.inner(4)
        with parts.timing('between'):
            place.inner(2)
            spend(8)
        spend(16)
    parts.release()
    assert parts.seconds == dict(outer=17.0, between=8.0, inner=6.0)
    assert place.inner is spend


def test_efficiency_of_processes(tool):
    def case(processes, batch, ms):
        row = dict(median_ms=ms)
        return dict(
            processes=processes, batch_size=batch, results=dict(step=row)
        )

    cases = [case(1, 8, 100.0), case(2, 8, 125.0), case(2, 16, 300.0)]
    tool.efficiency(cases)
    assert cases[1]['results']['step']['efficiency'] == 0.8
    for other in (cases[0], cases[2]):  # the last without counterpart
        assert 'efficiency' not in other['results']['step']


def test_bytes_that_a_process_sends():
    """A ring of four, and what MoCo exchanges beside its gradients."""
    assert benchmark.sent_bytes('all_gather', 8, 4) == 24
    assert benchmark.sent_bytes('all_reduce', 8, 4) == 12
    assert benchmark.sent_bytes('broadcast', 8, 4) == 8
    model = Distiller(
        dict(type='ResNet', depth=18, stem_channels=4, base_channels=4),
        heads=dict(
            contrast=dict(
                type='MomentumContrastHead', embed_dim=32, queue_length=16
            )
        ),
        momentum=0.9,
        num_global=2,
    ).train()
    views = [torch.randn(2, 3, 16, 16) for _ in range(2)]
    rows = benchmark.count_communication(model, views, 4)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    expected = {
        'all_reduce gradients': (1, 4 * trained),
        'broadcast 8': (1, 8 * 8),  # order of 8 images, int64
        'all_gather 2x3x16x16': (1, 2 * 3 * 256 * 4),  # the keys' images
        # keys: back into order, then into the queue
        'all_gather 2x32': (2, 2 * 2 * 32 * 4),
    }
    assert {
        name: (row['calls'], row['bytes']) for name, row in rows.items()
    } == expected
    assert not torch.distributed.is_initialized()


# --- what is measured -------------------------------------------------------


def test_views_of_a_config():
    assert benchmark.read_views(None, load_config(DEMO)) == [(2, 32), (2, 20)]
    assert benchmark.read_views(None, load_config(PAPER)) == [
        (2, 224),
        (6, 96),
    ]
    assert benchmark.read_views(None, load_config(SEED)) == [(1, 224)]
    assert benchmark.read_views(['2x48'], load_config(SEED)) == [(2, 48)]


def test_images_in_memory(tmp_path):
    cfg = load_config(SEED)
    benchmark.set_images(cfg, 'memory', tmp_path, 6, 32, [(2, 32), (3, 16)])
    benchmark.set_cifar_stem(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        data = DATASETS.build(cfg.train_dataloader.dataset)
        preprocessor = MODELS.build(cfg.model.data_preprocessor)
    assert len(data) == 6
    batch = dict(inputs=torch.stack([data[0]['inputs'], data[5]['inputs']]))
    views = preprocessor(batch, True)['inputs']
    assert [tuple(v.shape) for v in views] == [(2, 3, 32, 32)] * 2 + [
        (2, 3, 16, 16)
    ] * 3
    assert cfg.model.backbone.type == 'ResNet_CIFAR'
    assert cfg.model.teacher.backbone.type == 'ResNet_CIFAR'


def test_jpegs_for_the_pipeline_of_the_config(tmp_path):
    cfg = load_config(SEED)
    benchmark.set_images(cfg, 'jpeg', tmp_path / 'j', 2, 32, [])
    files = sorted((tmp_path / 'j').iterdir())
    assert [Image.open(file).size for file in files] == [(500, 375)] * 2
    # about as large as photographs of that size
    assert all(30e3 < file.stat().st_size < 200e3 for file in files)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        data = DATASETS.build(cfg.train_dataloader.dataset)
    assert data[1]['inputs'][0].shape == (3, 224, 224)
    with pytest.raises(ValueError, match='reads no files'):
        benchmark.set_images(load_config(DEMO), 'jpeg', tmp_path, 2, 32, [])


def test_peers_are_measured(tool, tmp_path, capsys):
    out = tmp_path / 'peers.json'
    arguments = [str(MOCO), *TINY, '--measure', 'run', '--peers', 'moco']
    arguments += ['--queue', '8', '--num-workers', '1', '--out', str(out)]
    tool.main(arguments)
    (case,) = json.loads(out.read_text())['cases']
    assert case['peer_workers'] == 1
    rows = case['peers']['moco']
    assert list(rows) == ['mmpretrain', 'ours float32', 'ours']
    assert rows['mmpretrain']['ratio_of_medians'] == 1
    assert 'moco to mmpretrain: of medians' in capsys.readouterr().out


@pytest.mark.parametrize('peer', benchmark.PEERS)
def test_peers_have_equal_networks(peer, tmp_path):
    sides = benchmark.peer_configs(
        peer,
        dict(type='ResNet', depth=18, stem_channels=4, base_channels=4),
        32,
        [(2, 16), (1, 8)],
        batch=4,
        dataset=dict(type='SyntheticImages', number=8, size=16),
        prototypes=6,
        queue=8,
        hidden=12,
        embedding=5,
    )
    assert set(sides) == {'mmpretrain', 'ours', 'ours float32'}
    shapes = {}
    for name, side in sides.items():
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            model = MODELS.build(side.model)
        shapes[name] = sorted(
            tuple(p.shape) for p in model.parameters() if p.requires_grad
        )
        loop = benchmark.stepped_loop(side, tmp_path, f'{peer}_{name[-3:]}')
        loop.advance()
        assert loop.iter == 1
    assert shapes['mmpretrain'] == shapes['ours'] == shapes['ours float32']


def test_a_queue_that_mmpretrain_cannot_have():
    with pytest.raises(ValueError, match='a queue of 10 is no multiple'):
        benchmark.peer_configs('moco', {}, 8, [(2, 8)], 4, {}, queue=10)


def test_measures_a_real_training(tool, tmp_path, capsys):
    out = tmp_path / 'step.json'
    arguments = [str(DEMO), *TINY, '--out', str(out), '--measure']
    arguments += ['limit', 'step', 'full', 'run', 'data', 'parts']
    tool.main(arguments)
    record, printed = json.loads(out.read_text()), capsys.readouterr().out
    (case,) = record['cases']
    assert case['batch_size'] == 4 and case['processes'] == 1
    results = case['results']
    assert set(results) == {'limit', 'step', 'full', 'run', 'data'}
    for name, row in results.items():
        assert 0 < row['least_ms'] <= row['median_ms'] <= row['most_ms']
        assert f'{row["median_ms"]:.1f}' in printed, name
    assert results['limit']['ratio_of_medians'] == 1.0
    step = results['step']
    ratios = f' {step["ratio_of_medians"]:.3f}, {step["median_of_ratios"]:.3f}'
    assert ratios in printed and 'of medians, median by rounds' in printed
    parts = case['parts']
    assert {
        'views',
        'student forward',
        'teacher forward',
        'head clustering',
        'sinkhorn',
        'queue',
        'head domain',
        'backward',
        'optimizer',
        'hooks',
        'waiting for data',
    } <= set(parts)
    others = sum(v for k, v in parts.items() if k != 'total')
    assert others == pytest.approx(parts['total'])
    assert record['machine']['torch'] == torch.__version__


def test_sweep_of_batches(tool, tmp_path):
    out = tmp_path / 'sweep.json'
    arguments = [str(MOCO), '--batch-size', '2', '4', '--rounds', '1']
    arguments += ['--steps', '1', '--measure', 'limit', 'step']
    tool.main([*arguments, '--out', str(out)])
    cases = json.loads(out.read_text())['cases']
    assert [case['batch_size'] for case in cases] == [2, 4]


def test_an_adapter_for_other_code(tool, tmp_path):
    (tmp_path / 'checkout').mkdir()
    (tmp_path / 'checkout' / 'theirs_.py').write_text(
        'def train(views):\n    return sum(v.sum() for v in views)\n'
    )
    adapter = tmp_path / 'adapter.py'
    adapter.write_text(
        'import theirs_\n'
        'def make_step(views, device):\n'
        '    assert [tuple(v.shape) for v in views] == [(2, 3, 32, 32)] * 2\n'
        '    return lambda: theirs_.train(views)\n'
    )
    out = tmp_path / 'out.json'
    arguments = [str(MOCO), '--batch-size', '2', '--rounds', '1', '--steps']
    arguments += ['1', '--adapter', str(adapter), '--out', str(out)]
    tool.main([*arguments, '--checkout', str(tmp_path / 'checkout')])
    (case,) = json.loads(out.read_text())['cases']
    assert case['results']['adapter']['median_of_ratios'] < 1


@pytest.mark.slow
def test_start_to_first_iteration(tool, tmp_path):
    out = tmp_path / 'out.json'
    arguments = [str(MOCO), *TINY, '--measure', 'start', '--out', str(out)]
    tool.main(arguments)
    (case,) = json.loads(out.read_text())['cases']
    assert 0.5 < case['start_s'] < 300


@pytest.mark.slow
@pytest.mark.dist
def test_two_processes(tool, tmp_path):
    out = tmp_path / 'out.json'
    arguments = [str(DEMO), *TINY, '--measure', 'limit', 'step']
    arguments += ['--device', 'cpu', '--processes', '1', '2', '--threads']
    tool.main([*arguments, '1', '--out', str(out)])
    one, two = json.loads(out.read_text())['cases']
    assert (one['processes'], two['processes']) == (1, 2)
    for name in ('limit', 'step'):
        assert two['results'][name]['efficiency'] > 0
        assert two['results'][name]['steps'] == 1
        assert 'efficiency' not in one['results'][name]


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--views', '2-64'], '--views 2-64: must be NUMBERxSIZE'),
        (['--rounds', '0'], '--rounds 0: must be at least 1'),
        (['--batch-size', '4', '0'], '--batch-size [4, 0]'),
        (['--processes', '2', '--measure', 'run'], 'measure run in another'),
        (['--processes', '2', '--peers', 'swav'], 'measure swav in another'),
        (
            ['--processes', '2', '--communication', '8'],
            'measure the communication in another call',
        ),
        (
            ['--processes', '1', '2', '--cpu-time', '--threads', '1'],
            'give --threads 1, no workers and one process',
        ),
        (['--checkout', 'somewhere'], 'nothing runs it; give --adapter'),
        (['--num-workers', '-1'], '--num-workers -1: must be >= 0'),
        (['--adapter', 'none.py', *TINY], 'none.py does not exist'),
        (['--cpu-time', '--threads', '2'], 'give --threads 1'),
        (['--communication', '1'], '--communication [1]'),
    ],
)
def test_bad_input(tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool.main([str(DEMO), *arguments])
    assert message in capsys.readouterr().err


def test_a_config_with_a_cache(tool, tmp_path, capsys):
    cfg = load_config(SEED)
    cfg.teacher_cache = dict(path='somewhere')
    cfg.dump(tmp_path / 'cached.py')
    with pytest.raises(SystemExit):
        tool.main([str(tmp_path / 'cached.py')])
    assert 'teacher_cache.py measures' in capsys.readouterr().err


def test_a_config_without_views(tool, tmp_path, capsys):
    cfg = Config(load_config(DEMO).to_dict())
    cfg.data_preprocessor = dict(type='SelfSupDataPreprocessor')
    cfg.model.data_preprocessor = cfg.data_preprocessor
    cfg.dump(tmp_path / 'plain.py')
    with pytest.raises(SystemExit):
        tool.main([str(tmp_path / 'plain.py')])
    assert 'give them by --views' in capsys.readouterr().err


def test_workers_that_processor_time_does_not_count(tool, tmp_path, capsys):
    arguments = [str(SEED), '--cpu-time', '--threads', '1', '--measure', 'run']
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert 'but the config has 8: give --num-wor' in capsys.readouterr().err
    args = tool.parse_args([*arguments, '--num-workers', '0'])
    tool.check_args(args)
    assert not tool.load(args, 2, str(tmp_path)).train_dataloader.num_workers


@pytest.mark.parametrize(
    ('config', 'arguments', 'message'),
    [
        (
            OFD,
            ['--data', 'memory', '--views', '1x32'],
            'made-up images have no labels',
        ),
        (KD, ['--views', '2x32'], 'takes one view of an image'),
        (
            ROOT / 'configs/demo'
            '/supervised_resnet18w8_1xb50-coslr-30e_garments-50.py',
            ['--views', '1x32'],
            'the model of the config is ImageClassifier: measured are',
        ),
    ],
)
def test_models_that_cannot_be_measured(
    tool, capsys, config, arguments, message
):
    with pytest.raises(SystemExit):
        tool.main([str(config), *arguments])
    assert message in capsys.readouterr().err


def test_both_sides_of_a_peer_have_as_many_workers(tool, monkeypatch):
    threads = torch.get_num_threads()
    for given, expected in (
        ([], threads),
        (['--num-workers', '3'], 3),
        (['--cpu-time'], 0),
    ):
        args = tool.parse_args([str(DEMO), '--peers', 'swav', *given])
        assert tool.peer_workers(args) == expected


def test_files_of_peers():
    """mmpretrain crops the file; a batch of views needs one size."""
    load, fit = [dict(type='LoadImageFromFile')], [dict(type='Resize')]
    sides = benchmark.peer_configs(
        'moco', {}, 8, [(2, 8)], 4, {}, load, fit, queue=8
    )
    kinds = {
        name: [step.type for step in side.train_dataloader.dataset.pipeline]
        for name, side in sides.items()
    }
    assert kinds == {
        'mmpretrain': ['LoadImageFromFile', 'MultiView', 'PackInputs'],
        'ours': ['LoadImageFromFile', 'Resize', 'PackImage'],
        'ours float32': ['LoadImageFromFile', 'Resize', 'PackImage'],
    }


def test_batch_norms_of_several_processes(tool, monkeypatch):
    """As the Runner does it, which a CPU cannot."""
    model = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    cfg, cpu, gpu = (
        Config(dict(sync_bn='torch')),
        *map(torch.device, ('cpu', 'cuda')),
    )
    assert tool.synchronise(cfg, model, gpu) is model
    monkeypatch.setattr(tool, 'get_world_size', lambda: 2)
    assert tool.synchronise(cfg, model, cpu) is model
    assert tool.synchronise(Config(), model, gpu) is model
    found = tool.synchronise(cfg, model, gpu)
    assert isinstance(found[0], torch.nn.SyncBatchNorm)


@pytest.mark.parametrize('wanted', [True, False])
def test_all_sides_choose_kernels_alike(tool, tmp_path, monkeypatch, wanted):
    """Of a Runner the setting would be left for the sides after it."""
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', not wanted)
    seen = []
    monkeypatch.setattr(
        tool,
        'prepare',
        lambda *_: seen.append(torch.backends.cudnn.benchmark) or {},
    )
    args = tool.parse_args(
        [str(MOCO), '--cfg-options', f'env_cfg.cudnn_benchmark={wanted}']
    )
    tool.measure_case(args, 2, str(tmp_path))
    assert seen == [wanted]
