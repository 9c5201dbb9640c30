"""Datasets and transforms that mmpretrain lacks."""

from .array_dataset import ArrayDataset
from .fashion_mnist import FashionMNISTArrays, GarmentDataset, fashion_mnist
from .garment_scenes import GarmentScenes, make_garment_scenes
from .seeded_views import SeededViews
from .stl10 import STL10
from .subsets import draw_subset
from .transforms import *  # noqa: F403
from .unlabelled_folder import UnlabelledFolder

__all__ = [
    'ArrayDataset',
    'FashionMNISTArrays',
    'GarmentDataset',
    'GarmentScenes',
    'STL10',
    'SeededViews',
    'UnlabelledFolder',
    'draw_subset',
    'fashion_mnist',
    'make_garment_scenes',
]
