"""What the clusters of CC, OSS Table 1, are made from: teacher and images.

    python tools/dataset_converters/pseudo_labels.py THIS_FILE --part teacher \
        --clusters 2000 --out-dir data/imagenet/meta/swav-resnet50_k2000
"""

_base_ = [
    '../compress/compress-1q_resnet18-swav-resnet50_8xb32-130e_in1k.py',
    '../_base_/datasets/imagenet_eval_sets.py',
]
