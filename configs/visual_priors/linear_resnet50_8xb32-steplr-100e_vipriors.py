"""Phase 1, then a linear classifier, Tables 1 and 2: val top-1 34.6.

34.6 in the paper (34.5 in its Table 1), with margin 0.4 and 4096 negatives.
The recipe is MoCo's: lr 30, no decay. For another row of Table 2 give its
phase 1:

    bash tools/dist_train.sh THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=PHASE_1.pth
"""

_base_ = [
    '../_base_/default_runtime.py',
    '../_base_/datasets/vipriors_224.py',
    '../_base_/models/classifier_resnet50.py',
    '../_base_/schedules/linear_sgd_steplr_100e.py',
]

phase_1 = (
    'work_dirs/moco-margin_resnet50_8xb32-steplr-800e_vipriors/epoch_800.pth'
)
model = dict(
    # in evaluation mode throughout
    type='FrozenClassifier',
    backbone=dict(
        init_cfg=dict(
            type='Pretrained', checkpoint=phase_1, prefix='backbone.'
        ),
    ),
)
sync_bn = None
custom_hooks = [dict(type='HealthHook'), dict(type='FrozenBackboneHook')]
