"""Random subsets of a detection data set in COCO's format."""

import copy
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

COUNT = 5  # subsets, as in OSS


def coco_subsets(
    content: dict, size: int, count: int = COUNT, seed: int = 0
) -> list[dict]:
    """Draw subsets of the images, no image in two of them.

    OSS averages Mask R-CNN over five non-overlapping random subsets of 1,000
    and of 10,000 training images. All sizes are drawn from one permutation:
    with the same ``count`` and ``seed`` the i-th smaller subset lies within
    the i-th larger one.

    Args:
        content: annotations, with ``images``, ``annotations`` and
            ``categories``.
        size: number of images of a subset.
        count: number of subsets. Defaults to 5.
        seed: of the permutation. Defaults to 0.

    Returns:
        Annotations of the subsets, with all categories; images and
        annotations keep their order and ids.

    Raises:
        ValueError: if a number is not positive, the subsets are larger than
            the data, an image id is there twice, or an annotation is of no
            image.
    """
    for name, value in (('size', size), ('count', count)):
        if value < 1:
            raise ValueError(f'{name}={value}: must be at least 1')
    ids = sorted(image['id'] for image in content['images'])
    if len(set(ids)) != len(ids):
        raise ValueError('an image id is there twice')
    if size * count > len(ids):
        raise ValueError(
            f'{count} subsets of {size} images are {count * size}, but there '
            f'are only {len(ids)} images'
        )
    strangers = {a['image_id'] for a in content['annotations']} - set(ids)
    if strangers:
        raise ValueError(
            f'annotations of {len(strangers)} images that are not listed, '
            f'such as image_id {min(strangers)}'
        )
    # the stream of RandomState is frozen across versions of numpy
    order = np.random.RandomState(seed).permutation(len(ids))
    stride = len(ids) // count
    subsets = []
    for index in range(count):
        start = index * stride
        chosen = {ids[row] for row in order[start : start + size]}
        subset = {
            key: copy.deepcopy(value)
            for key, value in content.items()
            if key not in ('images', 'annotations')
        }
        subset['images'] = [
            image for image in content['images'] if image['id'] in chosen
        ]
        subset['annotations'] = [
            a for a in content['annotations'] if a['image_id'] in chosen
        ]
        subsets.append(subset)
    return subsets


def check_subsets(subsets: Sequence[dict]) -> list[list[str]]:
    """Check that subsets do not overlap, and which classes they lack.

    Args:
        subsets: annotations of the subsets.

    Returns:
        For each subset the names of the categories without an annotation.

    Raises:
        ValueError: naming an image that is in two subsets.
    """
    owner: dict[int, int] = {}
    absent = []
    for number, subset in enumerate(subsets, 1):
        for image in subset['images']:
            if image['id'] in owner:
                raise ValueError(
                    f'image {image["id"]} is in subset '
                    f'{owner[image["id"]]} and in subset {number}'
                )
            owner[image['id']] = number
        found = {a['category_id'] for a in subset['annotations']}
        absent.append(
            [c['name'] for c in subset['categories'] if c['id'] not in found]
        )
    return absent


def check_images(content: dict, folder: str | Path) -> None:
    """Check that every image of the annotations is there.

    Args:
        content: annotations.
        folder: with the images.

    Raises:
        FileNotFoundError: naming images that are missing.
    """
    folder = Path(folder)
    names = [image['file_name'] for image in content['images']]
    # one listing is faster than a look at each of 118,287 files
    there = {
        inside: {entry.name for entry in os.scandir(inside)}
        for inside in {(folder / name).parent for name in names}
        if inside.is_dir()
    }
    missing = [
        name
        for name in names
        if Path(name).name not in there.get((folder / name).parent, ())
    ]
    if missing:
        raise FileNotFoundError(
            f'{len(missing)} of {len(names)} images are not in {folder}: '
            f'{", ".join(missing[:5])}'
        )
