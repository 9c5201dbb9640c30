"""Every suite has the configs of its paper's students."""

import pytest

from mmssd.apis.suite_tasks import SUITES
from mmssd.apis.suites import Suite

STUDENTS = (
    *('resnet18', 'resnet34', 'mobilenet-v2', 'mobilenet-v3-large'),
    *('efficientnet-b0', 'efficientnet-b1', 'regnety-600mf', 'resnet50'),
)
TRANSFORMERS = ('vit-tiny', 'xcit-tiny')
# whom each suite has configs of: the students of its paper
_OSS = ('resnet18', 'mobilenet-v2', 'efficientnet-b0', 'regnety-600mf')
_SEED = (
    *('resnet18', 'resnet34', 'mobilenet-v3-large'),
    *('efficientnet-b0', 'efficientnet-b1'),
)
_COMPRESS = ('resnet18', 'mobilenet-v2', 'resnet50')
PAPERS = {
    'demo': (*STUDENTS, *TRANSFORMERS),  # its configs have one of their own
    'small': ('resnet18', 'mobilenet-v3-large', 'efficientnet-b0'),
    # resnet50: the online teacher
    'oss-table2': (*_OSS, 'resnet50'),
    'oss-table3': STUDENTS,
    'oss-table6': (*_OSS, 'resnet50'),
    'linear-oss': (*_OSS, 'resnet50'),
    'seed-table1': (*_SEED, 'resnet50'),
    'linear-seed': (*_SEED, 'resnet50'),
    'linear': _SEED,
    'linear-disco': _SEED,
    'linear-disco-code': _SEED,
    'disco-semi': _SEED,
    # C4 is there for ResNets
    'seed-detection': ('resnet18', 'resnet34', 'resnet50'),
    'disco-table2': ('resnet18', 'resnet34', 'resnet50'),
    'compress': _COMPRESS,
    'linear-compress': _COMPRESS,
    'linear-visual-priors': ('resnet50',),
    'linear-dino': TRANSFORMERS,
}


@pytest.mark.parametrize('name', sorted(SUITES))
def test_suites_name_configs_that_are_there(name, tmp_path):
    found = []
    everyone = (*STUDENTS, *TRANSFORMERS)
    for student in everyone:
        try:
            suite = Suite(
                SUITES[name], {'random': None}, tmp_path, student=student
            )
        except FileNotFoundError:
            continue
        found.append(student)
        columns = suite.columns()
        assert len(set(columns)) == len(columns)
    assert found == [s for s in everyone if s in PAPERS[name]]
    if name == 'oss-table3':
        suite = Suite(SUITES[name], {'random': None}, tmp_path, gpus=8)
        assert [cell.gpus for cell in suite.cells()] == [8] * 11 + [4]
        assert len(suite.cells()) == 1 + 5 + 5 + 1
        options = [cell.options[0] for cell in suite.cells()[1:6]]
        assert options[4].endswith('train2017_1k_5.json')


def test_a_student_without_a_config_is_told_what_there_is(tmp_path):
    with pytest.raises(FileNotFoundError) as info:
        Suite(
            SUITES['oss-table3'],
            {'random': None},
            tmp_path,
            student='vit-tiny',
        )
    first, *tasks, rest, there = str(info.value).splitlines()
    assert first == "no config for the student 'vit-tiny' of"
    assert [line.split(':')[0].strip() for line in tasks] == [
        'voc07',
        'coco-1k',
        'coco-10k',
    ]
    for line in tasks:
        assert 'rcnn_vit-tiny-fpn_8xb2-' in line
        assert line.endswith(f'those of {", ".join(sorted(STUDENTS))}')
    assert rest == '--tasks voc12 leaves them out'
    assert there == 'suites with vit-tiny: linear-dino'
    (voc12,) = (t for t in SUITES['oss-table3'] if t.name == 'voc12')
    suite = Suite((voc12,), {'random': None}, tmp_path, student='vit-tiny')
    assert suite.cells()[0].config.stem == 'fcn_vit-tiny_4xb4-20ki_voc12aug'
