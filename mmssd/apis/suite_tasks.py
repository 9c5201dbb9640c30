"""Which runs a table of transfer results is made of."""

import os
from dataclasses import dataclass
from pathlib import Path

from .demo import FEW_DRAWS, ROOT

BACKBONE = 'model.backbone.init_cfg'
C4 = (BACKBONE, 'model.roi_head.shared_head.init_cfg')
SUBSETS = range(1, 6)
VALIDATION = 2.0  # minutes assumed for the 5,000 images of COCO val

_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
_EVALUATORS = ('val_evaluator', 'test_evaluator')


@dataclass(frozen=True)
class Task:
    """One experiment, and the columns that it fills.

    Attributes:
        name: of its folder.
        config: below ``configs``; ``{student}`` is filled in.
        columns: by title: key of the metric, factor that makes it percent.
            In the metrics of a tool ``0:5`` takes several of a list.
        splits: for each run of the task the options of the config.
        inits: options that name the pretrained file.
        tool: ``'train'``, or ``'knn'`` or ``'linear_probe'`` of
            ``tools/analysis``, whose metrics are named by a dotted path.
        arguments: further ones of the tool.
        data: options that say where the data are; ``{data}`` is filled in.
        minutes: assumed for one run, until one has been measured.
        many: whether a probe reads so many images that as many processes
            read them as there are cores.
        unfair: why the network trained with all labels of ImageNet is no
            row of this, if it is none.
    """

    name: str
    config: str
    columns: dict[str, tuple[str, float]]
    splits: tuple[tuple[str, ...], ...] = ((),)
    inits: tuple[str, ...] = (BACKBONE,)
    tool: str = 'train'
    arguments: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    minutes: float | None = None
    many: bool = False
    unfair: str = ''

    def path(self, student: str) -> Path:
        """Return the file of the config, whether it is there or not."""
        return ROOT / 'configs' / self.config.format(student=student)

    def students(self) -> list[str]:
        """Return the students that have a config; none if none is asked."""
        before, found, after = self.config.partition('{student}')
        if not found:
            return []
        folder, start = os.path.split(before)
        return sorted(
            path.name.removeprefix(start).removesuffix(after)
            for path in (ROOT / 'configs' / folder).glob(f'{start}*{after}')
        )


def _probes(name: str, title: str) -> tuple[Task, ...]:
    """k-NN and linear probe on one of the small sets."""
    config = f'transfer/small/probe_{{student}}_{name}.py'
    data = tuple(
        f'{part}.data_root={{data}}/{name}' for part in ('bank', 'query')
    )
    return (
        Task(
            f'{name}-knn',
            config,
            {f'{title} k-NN': ('top1_by_k.20', 1)},
            tool='knn',
            data=data,
            minutes=2,
        ),
        Task(
            f'{name}-linear',
            config,
            {f'{title} linear': ('results.0.top1', 1)},
            tool='linear_probe',
            data=data,
            minutes=3,
        ),
    )


# recipe of a linear probe on ImageNet: what its config is called, epochs
_RECIPES = {
    'oss': ('coslr-100e', 100),
    'seed': ('steplr-100e', 100),
    'disco': ('steplr-100e', 100),
    'disco-code': ('steplr-100e', 100),
    'compress': ('steplr-40e', 40),
    'dino': ('coslr-100e', 100),
}


def _linear(recipe: str) -> Task:
    """Return a linear probe on ImageNet by one paper's recipe."""
    schedule, epochs = _RECIPES[recipe]
    return Task(
        f'linear-{recipe}',
        f'transfer/linear/{recipe}_{{student}}_8xb32-{schedule}_in1k.py',
        {
            'ImageNet top-1': ('accuracy/top1', 1),
            'ImageNet top-5': ('accuracy/top5', 1),
        },
        minutes=_minutes(epochs * 5_005, 0.15),
    )


def _few(paper: str, epochs: int) -> tuple[Task, ...]:
    """Return the training on 1 % and 10 % of ImageNet."""
    return tuple(
        Task(
            f'{share}percent',
            f'transfer/semi-supervised/{paper}_{{student}}_8xb32-steplr-'
            f'{epochs}e_in1k-{share}percent.py',
            {
                f'{share} % top-1': ('accuracy/top1', 1),
                f'{share} % top-5': ('accuracy/top5', 1),
            },
            # 50 iterations an epoch for each percent, and a validation
            minutes=epochs * (_minutes(50 * share, 0.3) + 1),
            unfair='its network has seen all labels. Trained on these labels '
            'alone, the "supervised" of OSS Table 7, is the row random of '
            'oss-table2',
        )
        for share in (1, 10)
    )


def _frozen(title: str, key: str, tool: str, *arguments: str) -> Task:
    """Return a measure of ImageNet's features that trains nothing."""
    name = title.lower().replace(' ', '-')
    return Task(
        name,
        'transfer/features/probe_{student}_in1k.py',
        {title: (key, 1)},
        tool=tool,
        arguments=arguments,
        minutes=60,  # 1,331,167 images are read
        many=True,
    )


def _places(folder: str, annotations: str = '') -> tuple[str, ...]:
    """Options that say where the images of a dense task are."""
    places = [f'{name}.dataset.data_root={folder}' for name in _LOADERS]
    if annotations:
        places += [
            f'{name}.ann_file={folder}{annotations}' for name in _EVALUATORS
        ]
    return tuple(places)


def _subsets(size: str) -> tuple[tuple[str, ...], ...]:
    place = 'train_dataloader.dataset.dataset.ann_file'
    file = 'annotations/instances_train2017_{}_{}.json'
    return tuple((f'{place}={file.format(size, n)}',) for n in SUBSETS)


def _coco(title: str) -> dict[str, tuple[str, float]]:
    return {
        f'{title} box AP50': ('coco/bbox_mAP_50', 100),
        f'{title} mask AP50': ('coco/segm_mAP_50', 100),
    }


def _minutes(iterations: int, seconds: float, validations: int = 0) -> float:
    """Minutes assumed: mmdet and mmseg state 0.3 to 0.5 s an iteration.

    Those are of a ResNet-50 on eight V100 of 2020, as is a validation.
    """
    return iterations * seconds / 60 + validations * VALIDATION


def _all_aps(title: str, prefix: str, names: dict[str, str]) -> dict:
    return {
        f'{title} {column}': (f'{prefix}{key}', 100)
        for column, key in names.items()
    }


_DISCO = (
    Task(
        'voc0712',
        'transfer/detection/faster-rcnn_{student}-c4_disco-code_8xb4-48ki_'
        'voc0712.py',
        _all_aps(
            'VOC',
            'pascal_voc/',
            {'AP': 'mAP', 'AP50': 'AP50', 'AP75': 'AP75'},
        ),
        inits=C4,
        minutes=_minutes(48_000, 0.5, validations=4),
    ),
    Task(
        'coco',
        'transfer/instance/mask-rcnn_{student}-c4_disco_8xb2-180ki_coco.py',
        {
            **_all_aps(
                'box',
                'coco/bbox_',
                {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75'},
            ),
            **_all_aps(
                'mask',
                'coco/segm_',
                {'AP': 'mAP', 'AP50': 'mAP_50', 'AP75': 'mAP_75'},
            ),
        },
        inits=C4,
        minutes=_minutes(180_000, 0.5, validations=3),
    ),
)
_DEMO = 'demo/oss_resnet18w4-resnet18w32_1xb256-coslr-700i_garments.py'

_SCENES = _places('{data}/multi/')
_BOXES = _places('{data}/multi/', 'instances_val.json')
_SINGLE = tuple(
    option
    for name in ('bank', 'query')
    for option in (
        f'{name}.data_root={{data}}',
        f'{name}.subset=None',  # all of them
    )
)

SUITES: dict[str, tuple[Task, ...]] = {
    # on garment scenes, on the CPU; minutes on two cores
    'demo': (
        Task(
            'detection',
            'demo/faster-rcnn_resnet18w4-fpn_1xb8-300i_garments.py',
            {'detection AP50': ('coco/bbox_mAP_50', 100)},
            data=_BOXES,
            minutes=1.9,
        ),
        Task(
            'instance',
            'demo/mask-rcnn_resnet18w4-fpn_1xb8-300i_garments.py',
            {
                'instance box AP50': ('coco/bbox_mAP_50', 100),
                'instance mask AP50': ('coco/segm_mAP_50', 100),
            },
            data=_BOXES,
            minutes=2.5,
        ),
        Task(
            'semantic',
            'demo/fcn_resnet18w4_1xb16-300i_garments.py',
            {'semantic mIoU': ('mIoU', 1)},
            data=_SCENES,
            minutes=1.2,
        ),
        Task(
            'knn',
            _DEMO,
            {'k-NN': ('top1_by_k.20', 1)},
            tool='knn',
            data=_SINGLE,
            minutes=0.4,
        ),
        Task(
            'linear',
            _DEMO,
            {
                'linear 1 %': (f'results.0:{FEW_DRAWS}.top1', 1),
                'linear 10 %': (
                    f'results.{FEW_DRAWS}:{2 * FEW_DRAWS}.top1',
                    1,
                ),
                'linear': (f'results.{2 * FEW_DRAWS}.top1', 1),
            },
            tool='linear_probe',
            arguments=(
                *('--fraction', '0.01', '0.1', '1'),
                *('--seeds', str(FEW_DRAWS)),
            ),
            data=_SINGLE,
            minutes=0.7,
        ),
    ),
    'oss-table2': _few('oss', 20),
    'oss-table3': (
        Task(
            'voc07',
            'transfer/detection/faster-rcnn_{student}-fpn_8xb2-12e_voc07.py',
            {'VOC07 AP50': ('pascal_voc/AP50', 100)},
            minutes=_minutes(12 * 5_011 // 16, 0.4, validations=4),
        ),
        Task(
            'coco-1k',
            'transfer/instance/mask-rcnn_{student}-fpn_8xb2-120e_coco-1k.py',
            _coco('COCO-1K'),
            _subsets('1k'),
            minutes=_minutes(120 * 1_000 // 16, 0.4, validations=2),
        ),
        Task(
            'coco-10k',
            'transfer/instance/mask-rcnn_{student}-fpn_8xb2-36e_coco-10k.py',
            _coco('COCO-10K'),
            _subsets('10k'),
            minutes=_minutes(36 * 10_000 // 16, 0.4, validations=2),
        ),
        Task(
            'voc12',
            'transfer/segmentation/fcn_{student}_4xb4-20ki_voc12aug.py',
            {'VOC12 mIoU': ('mIoU', 1)},
            minutes=_minutes(20_000, 0.3),
        ),
    ),
    # a dropout or an adversary more or less, frozen and fine-tuned
    'oss-table6': (_linear('oss'), *_few('oss', 20)),
    # few real images, on one GPU; minutes assumed for a ResNet-18
    'small': (
        *_probes('cifar10', 'CIFAR-10'),
        *_probes('tiny-imagenet-100', 'Tiny-ImageNet-100'),
        Task(
            'coco-mini',
            'transfer/small/mask-rcnn_{student}-fpn_1xb4-1ki_coco-mini.py',
            _coco('COCO-mini'),
            data=_places(
                '{data}/coco-mini/', 'annotations/instances_val2017.json'
            ),
            minutes=_minutes(1_000, 0.3),
        ),
        Task(
            'camvid',
            'transfer/small/fcn_{student}_1xb8-2ki_camvid.py',
            {'CamVid mIoU': ('mIoU', 1)},
            data=_places('{data}/camvid'),
            minutes=_minutes(2_000, 0.3),
        ),
        Task(
            'kangaroo-raccoon',
            'transfer/small/faster-rcnn_{student}-fpn_1xb8-1ki_kangaroo-'
            'raccoon.py',
            {'kangaroo/raccoon AP50': ('coco/bbox_mAP_50', 100)},
            data=_places('{data}/kangaroo-raccoon/', 'annotations/test.json'),
            minutes=_minutes(1_000, 0.3),
        ),
    ),
    # SEED and DisCo report the same tasks
    'seed-detection': _DISCO,
    'disco-table2': _DISCO,
    'seed-table1': (
        _frozen('k-NN', 'top1_by_k.10', 'knn', '--k', '10'),
        _linear('seed'),
    ),
    'disco-semi': _few('disco', 100),
    'compress': (
        _linear('compress'),
        _frozen('1-NN', 'top1_by_k.1', 'knn', '--k', '1', '--majority'),
        _frozen('cluster alignment', 'results.0.top1', 'cluster_alignment'),
    ),
    **{f'linear-{recipe}': (_linear(recipe),) for recipe in _RECIPES},
    'linear-visual-priors': (
        Task(
            'linear-vipriors',
            'visual_priors/linear_{student}_8xb32-steplr-100e_vipriors.py',
            {
                'VIPriors val top-1': ('accuracy/top1', 1),
                'VIPriors val top-5': ('accuracy/top5', 1),
            },
            # 195 iterations an epoch, and 20 validations
            minutes=_minutes(100 * 195, 0.15) + 20,
            unfair='its network has seen other images. Trained on these '
            'alone is visual_priors/supervised_resnet50_8xb32-steplr-100e_'
            'vipriors.py',
        ),
    ),
    'linear': (
        _linear('seed'),
        *(
            Task(
                f'cifar{n}',
                'transfer/linear/disco_{student}_8xb32-steplr-100e_cifar'
                f'{n}.py',
                {f'CIFAR-{n} top-1': ('accuracy/top1', 1)},
                minutes=_minutes(100 * 195, 0.15),
            )
            for n in (10, 100)
        ),
    ),
}

# where the data of a suite lie, unless it is said
DATA = {'demo': Path('data/garments'), 'small': Path('data/small')}
