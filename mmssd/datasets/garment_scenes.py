"""Garment scenes: real garments over real photos, with exact masks.

Fashion-MNIST's garments are composed at random scale, place, flip and tint
over crops of the colour photos that scikit-image ships. Everything follows
from one seed. Two products:

* **single**: one garment per small image, for pretraining, k-NN, probes;
* **multi**: one to six garments per image, COCO instances and semantic maps.

Train and val share neither garments (they come from the two splits of
Fashion-MNIST) nor background pixels (left and right part of each photo).
"""

import fcntl
import hashlib
import json
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path

import cv2
import numpy as np
from mmengine.logging import MMLogger
from mmpretrain.registry import DATASETS

from .array_dataset import ArrayDataset
from .fashion_mnist import CLASSES, PALETTE, FashionMNISTArrays

VERSION = 2  # raise it whenever the same arguments give other pixels
SPLITS = ('train', 'val')
# files of the wheel itself; other photos of skimage.data are downloaded
PHOTOS = (
    'astronaut.png',
    'chelsea.png',
    'coffee.png',
    'ihc.png',
    'motorcycle_left.png',
    'rocket.jpg',
)
TRAIN_WIDTH = 0.75  # share of a photo's columns that train may use
SPECK = 0.05  # parts below this share of a garment's largest are noise
SINGLE_SCALE = (0.7, 1.0)  # longer side of a garment / side of the scene
MULTI_SCALE = (0.22, 0.55)
MOST_GARMENTS = 6
MIN_VISIBLE = 0.25  # least visible share of a garment in a multi scene
MIN_PIXELS = 40  # least visible area of a garment in a multi scene
CHUNK = 250  # scenes per task of a worker

SEMANTIC_CLASSES = ('background', *CLASSES)
SEMANTIC_PALETTE = ((0, 0, 0), *PALETTE)


def load_backgrounds(split: str) -> list[np.ndarray]:
    """Return the part of each photo that a split may use.

    Args:
        split: ``'train'``, the left three quarters, or ``'val'``, the rest.

    Returns:
        RGB uint8 arrays ``(H, W, 3)``.

    Raises:
        ModuleNotFoundError: without scikit-image.
        FileNotFoundError: if its installation lacks a photo.
    """
    try:
        from skimage import data
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the garment scenes take their backgrounds from scikit-image: '
            'pip install scikit-image'
        ) from error
    parts = []
    for name in PHOTOS:
        path = Path(data.__file__).parent / name
        photo = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if photo is None:
            raise FileNotFoundError(
                f'{path} is missing: the backgrounds come with scikit-image '
                '0.20 to 0.26; install one of these'
            )
        border = int(photo.shape[1] * TRAIN_WIDTH)
        part = photo[:, :border] if split == 'train' else photo[:, border:]
        parts.append(np.ascontiguousarray(part[..., ::-1]))
    return parts


def garment_mask(image: np.ndarray) -> np.ndarray:
    """Return where a garment is: pixels above zero, holes filled.

    Parts that do not touch the largest one and are smaller than a twentieth
    of it are left out: nine garments of ten have such specks of noise, and
    real parts (the straps of sandals, a pair of shoes) are larger.

    Args:
        image: ``(28, 28)`` uint8 garment on black.

    Returns:
        ``(28, 28)`` booleans.

    Raises:
        ValueError: if the image is all black.
    """
    from scipy.ndimage import binary_fill_holes

    mask = binary_fill_holes(image > 0).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask)
    if count == 1:
        raise ValueError('an image without a pixel above zero has no mask')
    areas = stats[:, cv2.CC_STAT_AREA]
    keep = areas >= SPECK * areas[1:].max()
    keep[0] = False  # the background
    return keep[parts]


def draw_background(
    rng: np.random.Generator, photos: Sequence[np.ndarray], size: int
) -> np.ndarray:
    """Cut a random square out of a random photo.

    Its side is up to four times that of the scene, so that texture comes at
    several scales, and mirrored half of the time.

    Returns:
        ``(size, size, 3)`` uint8.
    """
    photo = photos[rng.integers(len(photos))]
    height, width = photo.shape[:2]
    most = min(height, width)
    side = int(rng.integers(min(size, most), min(4 * size, most) + 1))
    top = rng.integers(height - side + 1)
    left = rng.integers(width - side + 1)
    patch = photo[top : top + side, left : left + side]
    if rng.random() < 0.5:
        patch = patch[:, ::-1]
    patch = np.ascontiguousarray(patch)
    return cv2.resize(patch, (size, size), interpolation=cv2.INTER_AREA)


def warp_garment(
    garment: np.ndarray,
    mask: np.ndarray,
    size: int,
    zoom: float,
    x: float,
    y: float,
    flip: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Resize a garment and put it into an empty square, anti-aliased.

    Args:
        garment: ``(h, w)`` uint8.
        mask: ``(h, w)`` booleans, not empty.
        size: side of the square in pixels.
        zoom: factor of the garment's size.
        x: left of the mask's bounding box in the square, pixels.
        y: its top.
        flip: mirror it left to right.

    Returns:
        grey values ``(size, size)`` float32 in 0..255, continued beyond the
        edge so that edges do not darken, and coverage ``(size, size)``
        float32 in [0, 1]: the share of each pixel that the garment covers.
    """
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, right, top = cols[0], cols[-1] + 1, rows[0]
    # sample more densely and average where the garment shrinks
    dense = math.ceil(1 / zoom)
    scale = zoom * dense
    shift_x = dense * x + scale * (right if flip else -left)
    shift_y = dense * y - scale * top
    scale_x = -scale if flip else scale
    # continuous source u -> scale * u + shift; pixel i has its centre at
    # i + 1/2
    matrix = np.array(
        [
            [scale_x, 0, shift_x + (scale_x - 1) / 2],
            [0, scale, shift_y + (scale - 1) / 2],
        ]
    )
    layers = np.dstack([garment * mask, mask * 255.0]).astype(np.float32)
    layers = cv2.warpAffine(layers, matrix, (size * dense, size * dense))
    if dense > 1:
        layers = cv2.resize(layers, (size, size), interpolation=cv2.INTER_AREA)
    coverage = layers[..., 1] / 255
    return layers[..., 0] / np.maximum(coverage, 1e-3), coverage


def draw_garment(
    rng: np.random.Generator,
    garment: np.ndarray,
    size: int,
    scale: Sequence[float],
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one garment at a random scale, place, flip and tint.

    Args:
        rng: source of randomness.
        garment: ``(28, 28)`` uint8 on black.
        size: side of the scene in pixels.
        scale: range of the garment's longer side, fraction of the scene.

    Returns:
        RGB colour ``(size, size, 3)`` in 0..255 and coverage ``(size,
        size)`` in [0, 1], float32. The garment lies wholly inside.
    """
    mask = garment_mask(garment)
    height, width = np.ptp(np.argwhere(mask), axis=0) + 1
    zoom = size * rng.uniform(*scale) / max(height, width)
    x = rng.uniform(0, size - zoom * width)
    y = rng.uniform(0, size - zoom * height)
    flip = rng.random() < 0.5
    grey, coverage = warp_garment(garment, mask, size, zoom, x, y, flip)
    tint = rng.uniform(0.25, 1.0, 3)
    tint *= rng.uniform(0.7, 1.3) / tint.max()
    colour = np.minimum(grey[..., None] * tint.astype(np.float32), 255)
    return colour, coverage


def lay(scene: np.ndarray, colour: np.ndarray, coverage: np.ndarray) -> None:
    """Lay a garment over a float32 scene, in place."""
    scene += coverage[..., None] * (colour - scene)


def visible_masks(
    coverages: Sequence[np.ndarray],
    min_visible: float = MIN_VISIBLE,
    min_pixels: int = MIN_PIXELS,
) -> list[np.ndarray | None]:
    """Return what is seen of each garment when later ones lie on top.

    A garment covers the pixels where its coverage is at least one half.
    Where too little of it would be seen it is to be left out of the scene,
    and then hides nothing itself.

    Args:
        coverages: one ``(H, W)`` array in [0, 1] per garment, bottom first.
        min_visible: least visible share of a garment's own pixels.
        min_pixels: least number of visible pixels.

    Returns:
        Disjoint ``(H, W)`` booleans, ``None`` for a garment to leave out.
    """
    masks = []
    hidden = np.zeros_like(coverages[0], dtype=bool)
    for coverage in reversed(coverages):
        own = coverage >= 0.5
        seen = own & ~hidden
        if seen.sum() < max(min_pixels, min_visible * own.sum()):
            masks.append(None)
            continue
        masks.append(seen)
        hidden |= own
    return masks[::-1]


class SceneMaker:
    """Make any scene of one split, by its index alone.

    Args:
        images: ``(n, 28, 28)`` uint8 garments of the split.
        labels: ``(n,)`` their classes.
        split: ``'train'`` or ``'val'``.
        seed: of everything that is drawn.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, split: str, seed: int
    ) -> None:
        self.images = images
        self.labels = labels
        self.key = (seed, SPLITS.index(split))
        self.photos = load_backgrounds(split)
        order = np.random.default_rng([2, *self.key])
        self.order = order.permutation(len(images))

    def single(
        self, index: int, size: int, scale: Sequence[float] = SINGLE_SCALE
    ) -> tuple[np.ndarray, int]:
        """Return a scene of one garment, and its class.

        Every garment is used once before any is used again.

        Returns:
            ``(size, size, 3)`` uint8 RGB and the class in 0..9.
        """
        # a generator for each scene: the workers' number does not matter
        rng = np.random.default_rng([0, *self.key, index])
        number = self.order[index % len(self.order)]
        scene = draw_background(rng, self.photos, size).astype(np.float32)
        lay(scene, *draw_garment(rng, self.images[number], size, scale))
        return (scene + 0.5).astype(np.uint8), int(self.labels[number])

    def multi(
        self, index: int, size: int, scale: Sequence[float] = MULTI_SCALE
    ) -> tuple[np.ndarray, np.ndarray, list[tuple[int, np.ndarray]]]:
        """Return a scene of one to six garments.

        Returns:
            image ``(size, size, 3)`` uint8 RGB; semantic map ``(size,
            size)`` uint8, 0 background and 1 + class elsewhere; instances
            as (class, mask of the visible pixels).
        """
        rng = np.random.default_rng([1, *self.key, index])
        scene = draw_background(rng, self.photos, size).astype(np.float32)
        count = rng.integers(1, MOST_GARMENTS + 1)
        chosen = rng.integers(len(self.images), size=count)
        drawn = [
            draw_garment(rng, self.images[n], size, scale) for n in chosen
        ]
        masks = visible_masks([coverage for _, coverage in drawn])
        semantic = np.zeros((size, size), np.uint8)
        instances = []
        for number, layers, mask in zip(chosen, drawn, masks, strict=True):
            if mask is None:
                continue
            lay(scene, *layers)
            label = int(self.labels[number])
            semantic[mask] = label + 1
            instances.append((label, mask))
        return (scene + 0.5).astype(np.uint8), semantic, instances


_WORKER: dict = {}  # what the initialiser leaves for the tasks of a process


def _start_worker(maker: SceneMaker, options: dict) -> None:
    _WORKER.update(maker=maker, **options)


def _single_chunk(indices: range) -> tuple[np.ndarray, np.ndarray]:
    maker, size, scale = (_WORKER[k] for k in ('maker', 'size', 'scale'))
    images, labels = zip(
        *(maker.single(i, size, scale) for i in indices), strict=True
    )
    return np.stack(images), np.array(labels, np.int64)


def _annotation(label: int, mask: np.ndarray) -> dict:
    from pycocotools import mask as coco_mask

    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return dict(
        category_id=label + 1,
        bbox=[float(v) for v in coco_mask.toBbox(rle)],
        area=int(coco_mask.area(rle)),
        segmentation=dict(
            size=list(rle['size']), counts=rle['counts'].decode()
        ),
        iscrowd=0,
    )


def _multi_chunk(indices: range) -> list[tuple[str, list[dict]]]:
    maker, size, folder = (_WORKER[k] for k in ('maker', 'size', 'folder'))
    fast = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    scenes = []
    for index in indices:
        image, semantic, instances = maker.multi(index, size)
        name = f'{index:06d}.png'
        for kind, pixels in (
            ('images', image[..., ::-1]),
            ('semantic', semantic),
        ):
            path = folder / kind / name
            if not cv2.imwrite(str(path), pixels, fast):
                raise OSError(f'cannot write {path}: is the disk full?')
        scenes.append((name, [_annotation(*item) for item in instances]))
    return scenes


@contextmanager
def _one_opencv_thread() -> Iterator[None]:
    # a fork inherits OpenCV's pool without its threads and would wait for
    # them; the scenes are too small to need any
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _run(
    task: Callable,
    count: int,
    maker: SceneMaker,
    options: dict,
    num_workers: int,
    what: str,
) -> list:
    """Run a task on chunks of ``range(count)``, in order."""
    logger = MMLogger.get_current_instance()
    chunks = [
        range(start, min(start + CHUNK, count))
        for start in range(0, count, CHUNK)
    ]
    results = []

    def collect(parts):
        for number, part in enumerate(parts, start=1):
            results.append(part)
            if number % 40 == 0 or number == len(chunks):
                done = min(number * CHUNK, count)
                logger.info(f'garment scenes, {what}: {done} of {count}')

    num_workers = min(num_workers, len(chunks))
    try:
        if num_workers > 1:
            with (
                _one_opencv_thread(),
                get_context('fork').Pool(
                    num_workers, _start_worker, (maker, options)
                ) as pool,
            ):
                collect(pool.imap(task, chunks))
        else:
            _start_worker(maker, options)
            collect(map(task, chunks))
    finally:
        _WORKER.clear()
    return results


def _write_single(
    folder: Path, split: str, parts: list, size: int
) -> dict[str, str]:
    images = np.zeros((0, size, size, 3), np.uint8)
    labels = np.zeros(0, np.int64)
    if parts:
        images, labels = (
            np.concatenate(arrays) for arrays in zip(*parts, strict=True)
        )
    digests = {}
    for kind, array in (('images', images), ('labels', labels)):
        name = f'single_{split}_{kind}.npy'
        np.save(folder / name, array)
        digests[name] = hashlib.sha256(array).hexdigest()
    return digests


def _write_multi(
    folder: Path, split: str, parts: list, size: int
) -> dict[str, str]:
    coco = dict(
        images=[],
        annotations=[],
        categories=[dict(id=i + 1, name=n) for i, n in enumerate(CLASSES)],
    )
    for name, annotations in (scene for part in parts for scene in part):
        image_id = len(coco['images']) + 1
        coco['images'].append(
            dict(id=image_id, file_name=name, width=size, height=size)
        )
        for annotation in annotations:
            number = len(coco['annotations']) + 1
            coco['annotations'].append(
                dict(id=number, image_id=image_id, **annotation)
            )
    text = json.dumps(coco)
    name = f'multi/instances_{split}.json'
    (folder / name).write_text(text)
    return {name: hashlib.sha256(text.encode()).hexdigest()}


def _make(
    folder: Path,
    garments: FashionMNISTArrays,
    seed: int,
    single: Sequence[int],
    multi: Sequence[int],
    single_size: int,
    single_scale: Sequence[float],
    multi_size: int,
    num_workers: int,
) -> dict[str, str]:
    """Fill a folder; return the SHA-256 of its arrays and annotations."""
    digests = {}
    for split, n_single, n_multi in zip(SPLITS, single, multi, strict=True):
        images, labels = garments.split(split)
        maker = SceneMaker(images, labels, split, seed)
        options = dict(size=single_size, scale=single_scale)
        parts = _run(
            _single_chunk,
            n_single,
            maker,
            options,
            num_workers,
            f'single {split}',
        )
        digests |= _write_single(folder, split, parts, single_size)
        target = folder / 'multi' / split
        for kind in ('images', 'semantic'):
            (target / kind).mkdir(parents=True)
        options = dict(size=multi_size, folder=target)
        parts = _run(
            _multi_chunk,
            n_multi,
            maker,
            options,
            num_workers,
            f'multi {split}',
        )
        digests |= _write_multi(folder, split, parts, multi_size)
    return digests


def _complete(folder: Path, wanted: dict) -> dict | None:
    """Return the manifest of a folder that holds what is wanted."""
    try:
        manifest = json.loads((folder / 'manifest.json').read_text())
    except (OSError, ValueError):
        return None
    found = {key: manifest.get(key) for key in wanted}
    files = [folder / name for name in manifest.get('sha256', ())]
    for split, count in zip(SPLITS, wanted['multi'], strict=True):
        for kind in ('images', 'semantic'):
            if count:
                last = f'{count - 1:06d}.png'
                files.append(folder / 'multi' / split / kind / last)
    if found == wanted and all(path.is_file() for path in files):
        return manifest
    return None


def _check_target(folder: Path) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f'{folder} is a file: give a folder')
    foreign = [
        path.name
        for path in folder.iterdir()
        if not path.name.startswith('single_')
        and path.name not in ('multi', 'manifest.json')
    ]
    if foreign:
        raise ValueError(
            f'{folder} holds something else than garment scenes '
            f'({", ".join(sorted(foreign)[:3])}): choose another folder or '
            'empty it'
        )


def make_garment_scenes(
    out_dir: str | Path,
    garments: FashionMNISTArrays,
    seed: int = 0,
    single: Sequence[int] = (40_000, 5_000),
    multi: Sequence[int] = (2_000, 500),
    single_size: int = 32,
    single_scale: Sequence[float] = SINGLE_SCALE,
    multi_size: int = 128,
    num_workers: int | None = None,
) -> dict:
    """Write the garment scenes to a folder, once.

    Layout: ``single_{train,val}_{images,labels}.npy`` (RGB uint8 ``(n, S, S,
    3)``; int64 in 0..9), ``multi/{train,val}/images/*.png`` (RGB),
    ``multi/{train,val}/semantic/*.png`` (0 background, 1 to 10 the classes),
    ``multi/instances_{train,val}.json`` (COCO, category ids 1 to 10),
    ``manifest.json``. They are made beside the folder, which appears when
    everything is there; a folder that holds what is asked for is left as it
    is, an incomplete or different one is made anew.

    The scenes are the same for any number of workers. (Other versions of
    OpenCV may round single pixels differently.)

    Args:
        out_dir: target folder.
        garments: from :func:`~mmssd.datasets.fashion_mnist`.
        seed: of everything that is drawn.
        single: number of train and of val scenes of one garment. Beyond
            60,000 and 10,000 garments recur, in other scenes.
        multi: number of train and of val scenes of several garments.
        single_size: side in pixels, 16 to 512.
        single_scale: longer side of the garment, fraction of the scene's.
        multi_size: side in pixels, 64 to 1024.
        num_workers: processes. Defaults to the number of cores.

    Returns:
        The manifest: the arguments, the version of the generator and the
        SHA-256 of garments, arrays and annotations.

    Raises:
        ValueError: for an argument out of range, or a folder that holds
            something else.
    """
    out_dir = Path(out_dir)
    for name, value, low, high in (
        ('single_size', single_size, 16, 512),
        ('multi_size', multi_size, 64, 1024),
    ):
        if not low <= value <= high:
            raise ValueError(
                f'{name}={value}: must be in [{low}, {high}] pixels'
            )
    if not 0.1 <= single_scale[0] <= single_scale[1] <= 1:
        raise ValueError(
            f'single_scale={tuple(single_scale)}: must be within [0.1, 1], '
            'rising'
        )
    for name, counts in (('single', single), ('multi', multi)):
        if len(counts) != 2 or min(counts) < 0:
            raise ValueError(
                f'{name}={tuple(counts)}: give the number of train and of '
                'val scenes'
            )
    if seed < 0:
        raise ValueError(f'seed={seed}: must not be negative')
    _check_target(out_dir)
    options = dict(
        seed=seed,
        single=list(single),
        multi=list(multi),
        single_size=single_size,
        single_scale=list(single_scale),
        multi_size=multi_size,
    )
    wanted = dict(version=VERSION, **options, garments=garments.sha256())
    beside = out_dir.absolute()
    beside.parent.mkdir(parents=True, exist_ok=True)
    part, old, lock = (
        beside.with_name(beside.name + suffix)
        for suffix in ('.part', '.old', '.lock')
    )
    with lock.open('w') as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)  # another process may be at it
        manifest = _complete(out_dir, wanted)
        if manifest is None:
            for leftover in (part, old):
                shutil.rmtree(leftover, ignore_errors=True)
            part.mkdir()
            digests = _make(
                part,
                garments,
                **options,
                num_workers=num_workers or cpu_count() or 1,
            )
            manifest = dict(
                **wanted, classes=list(CLASSES), photos=list(PHOTOS)
            )
            manifest['sha256'] = digests
            text = json.dumps(manifest, indent=1)
            (part / 'manifest.json').write_text(text)
            if out_dir.exists():
                beside.rename(old)
            part.rename(beside)
            shutil.rmtree(old, ignore_errors=True)
        lock.unlink(missing_ok=True)
    return manifest


@DATASETS.register_module()
class GarmentScenes(ArrayDataset):
    """Single garment scenes as an mmpretrain data set.

    Items have ``img``, **RGB** uint8 ``(S, S, 3)`` (so ``to_rgb=False`` in
    the data preprocessor), and ``gt_label``. The images stay in one
    memory-mapped array, see :meth:`arrays`.

    The multi scenes need no class: mmdet's ``CocoDataset`` and mmseg's
    ``BaseSegDataset`` read them.

    Args:
        split (str): ``'train'`` or ``'val'``.
        data_root (str): folder of :func:`make_garment_scenes`.
        subset (float, optional): keep this fraction of every class, see
            :class:`ArrayDataset`.
        seed (int): of the subset.
        per_class (int, optional): keep this number of scenes of every class
            instead.
        **kwargs: of mmpretrain's ``BaseDataset``, such as ``pipeline``.

    Raises:
        FileNotFoundError: if the folder holds no garment scenes.
        ValueError: for an unknown split, or a subset that cannot be drawn.
    """

    METAINFO = dict(classes=CLASSES, palette=PALETTE)

    def __init__(
        self,
        split: str = 'train',
        data_root: str = 'data/garments',
        subset: float | None = None,
        seed: int = 0,
        per_class: int | None = None,
        **kwargs,
    ) -> None:
        if split not in SPLITS:
            raise ValueError(f'split={split!r}: must be one of {SPLITS}')
        folder = Path(data_root).expanduser()
        paths = [
            folder / f'single_{split}_{kind}.npy'
            for kind in ('images', 'labels')
        ]
        missing = [path.name for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f'no garment scenes in {folder.absolute()} (looked for '
                f'{", ".join(missing)}): make them by python tools/'
                f'dataset_converters/garment_scenes.py --out {data_root}'
            )
        self.split = split
        super().__init__(
            np.load(paths[0], mmap_mode='r'),
            np.load(paths[1]),
            subset=subset,
            seed=seed,
            per_class=per_class,
            data_root=str(data_root),
            **kwargs,
        )
