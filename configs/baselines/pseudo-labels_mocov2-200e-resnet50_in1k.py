"""What the clusters of SEED's k-means are made from: teacher and images.

    python tools/dataset_converters/pseudo_labels.py THIS_FILE --part teacher \
        --clusters 2000 --out-dir data/imagenet/meta/mocov2-200e-resnet50_k2000
"""

_base_ = [
    '../seed/seed_resnet18-resnet50_8xb32-coslr-200e_in1k.py',
    '../_base_/datasets/imagenet_eval_sets.py',
]
