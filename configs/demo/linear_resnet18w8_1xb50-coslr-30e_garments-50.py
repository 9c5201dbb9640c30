"""Visual Priors in miniature, Table 1: phase 1, then a linear classifier.

python tools/train.py THIS_FILE
"""

_base_ = 'finetune_resnet18w8_1xb50-coslr-30e_garments-50.py'

# in evaluation mode throughout
model = dict(type='FrozenClassifier')
custom_hooks = [dict(type='HealthHook'), dict(type='FrozenBackboneHook')]
