"""Phase 1, then a linear classifier, Tables 1 and 2: val top-1 34.6.

34.6 in the paper (34.5 in its Table 1), with margin 0.4 and 4096 negatives.
The recipe is MoCo's: lr 30, no decay. For another row of Table 2 give its
phase 1:

    bash tools/dist_train.sh THIS_FILE 8 \
        --cfg-options model.backbone.init_cfg.checkpoint=PHASE_1.pth
"""

_base_ = 'finetune_resnet50_8xb32-steplr-100e_vipriors.py'

# in evaluation mode, too
model = dict(backbone=dict(frozen_stages=4))
optim_wrapper = dict(optimizer=dict(lr=30.0, nesterov=False, weight_decay=0.0))
param_scheduler = [
    dict(type='MultiStepLR', by_epoch=True, milestones=[60, 80], gamma=0.1)
]
