"""Reading image files of any kind, and living with broken ones."""

import io
import re
import zlib
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine import fileio
from mmengine.logging import MMLogger
from mmpretrain.registry import TRANSFORMS
from PIL import Image, ImageOps

PATH_BYTES = 1024  # of a path that are remembered, from its end
WHITE = (255, 255, 255)


def to_rgb(image: Image.Image, background: tuple = WHITE) -> np.ndarray:
    """Turn a PIL image of any mode into 8-bit RGB.

    * EXIF orientation is applied.
    * Grey, black and white, palette, CMYK, YCbCr, Lab become RGB; of several
      frames the first counts.
    * Transparent pixels are laid over ``background``.
    * 16-bit integers are scaled by 255 / 65535, wider ones by their largest
      possible value.
    * Floats are taken for [0, 1] if none is larger, else for [0, 255], and
      cut to that range.

    Args:
        image: opened by PIL.
        background: RGB.

    Returns:
        ``(H, W, 3)`` uint8.
    """
    # turned before converting: the converted image may forget the tag
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith('I') or image.mode == 'F':
        return np.repeat(_to_8_bits(image)[..., None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert('RGBA')
        canvas = Image.new('RGBA', image.size, (*background, 255))
        image = Image.alpha_composite(canvas, image)
    return np.array(image.convert('RGB'))


def _to_8_bits(image: Image.Image) -> np.ndarray:
    pixels = np.asarray(image).astype(np.float64)
    if image.mode == 'F':
        pixels = np.nan_to_num(pixels)
        scale = 255.0 if pixels.max() <= 1 else 1.0
    else:
        # 'I' is 32 bits wide, but some 16-bit files are opened as such
        scale = 255 / (65535 if pixels.max() <= 65535 else 2**31 - 1)
    return (pixels * scale).clip(0, 255).round().astype(np.uint8)


class BrokenFiles:
    """A set of paths that the workers of a data loader share.

    It lies in shared memory, so that the workers, forked or spawned, and the
    process that started them see one set. Each training process (rank) has
    its own. There is no lock, which could not be copied with a data set: if
    two workers write at one instant, a path may be counted twice or missed
    until it is met again.

    Args:
        limit (int): how many paths are to be remembered at least.
    """

    def __init__(self, limit: int) -> None:
        # half empty at the limit, so that a free row is near
        self.rows = torch.zeros(2 * limit + 8, PATH_BYTES, dtype=torch.uint8)
        self.rows.share_memory_()

    def __deepcopy__(self, memo: dict) -> 'BrokenFiles':
        return self  # the copy of a data set still counts here

    def add(self, path: str) -> bool:
        """Remember a path; return whether it is new."""
        key = path.encode(errors='surrogateescape')[-PATH_BYTES:]
        rows = self.rows.numpy()
        start = zlib.crc32(key)
        for step in range(len(rows)):
            row = rows[(start + step) % len(rows)]
            known = row.tobytes().rstrip(b'\0')
            if known == key:
                return False
            if not known:
                row[: len(key)] = np.frombuffer(key, np.uint8)
                return True
        return True  # full: far beyond the limit

    def paths(self) -> list[str]:
        """Return the paths, sorted."""
        rows = self.rows.numpy()
        keys = (row.tobytes().rstrip(b'\0') for row in rows if row.any())
        return sorted(key.decode(errors='surrogateescape') for key in keys)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Read an image file of any kind as 8 bits and three channels.

    In place of ``LoadImageFromFile``, for folders of mixed origin: grey,
    transparent (over white), CMYK, 16-bit, palette and turned pictures, see
    :func:`to_rgb`.

    A file that cannot be read is logged as an error, and the transform gives
    ``None``, upon which data sets draw another sample in training. With more
    than ``max_broken`` such files the run stops with the list of them. The
    workers of a data loader share the count; each training process (rank)
    has its own. A data set in ``test_mode`` has no other sample to draw, so
    leave ``max_broken`` at zero there.

    Required key: ``img_path``. Added keys: ``img`` ``(H, W, 3)`` uint8,
    ``img_shape``, ``ori_shape``.

    Args:
        max_broken (int): how many different files may be broken. Defaults to
            0: the first one stops the run.
        channel_order (str): ``'bgr'``, as ``LoadImageFromFile`` gives and
            ``to_rgb=True`` of the data preprocessors expects, or ``'rgb'``.
            Defaults to ``'bgr'``.
        backend_args (dict, optional): of mmengine's file backend, for paths
            that are not local.

    Raises:
        ValueError: for an argument out of range; in a run, for more broken
            files than the limit.
    """

    def __init__(
        self,
        max_broken: int = 0,
        channel_order: str = 'bgr',
        backend_args: dict | None = None,
    ) -> None:
        super().__init__()
        if max_broken < 0:
            raise ValueError(f'max_broken={max_broken}: must be at least 0')
        if channel_order not in ('bgr', 'rgb'):
            raise ValueError(
                f"channel_order={channel_order!r}: must be 'bgr' or 'rgb'"
            )
        self.max_broken = max_broken
        self.channel_order = channel_order
        self.backend_args = backend_args
        self.broken = BrokenFiles(max_broken)

    def transform(self, results: dict) -> dict | None:
        """Read ``img_path``; return ``None`` if it is broken."""
        path = str(results['img_path'])
        try:
            content = fileio.get(path, backend_args=self.backend_args)
            with Image.open(io.BytesIO(content)) as image:
                pixels = to_rgb(image)
        except Exception as error:  # PIL's decoders raise nearly anything
            self._report(path, error)
            return None
        if self.channel_order == 'bgr':
            pixels = np.ascontiguousarray(pixels[..., ::-1])
        results['img'] = pixels
        results['img_shape'] = results['ori_shape'] = pixels.shape[:2]
        return results

    def _report(self, path: str, error: Exception) -> None:
        if not self.broken.add(path):
            return
        paths = self.broken.paths()
        reason = ' '.join(f'{type(error).__name__}: {error}'.split())
        # where PIL found it in memory
        reason = re.sub(r' ?<_io\.BytesIO object at \w+>', '', reason)
        if len(paths) <= self.max_broken:
            # as an error: of other ranks nothing less is shown
            MMLogger.get_current_instance().error(
                f'broken image {len(paths)} of at most {self.max_broken}, '
                f'skipped: {path} ({reason})'
            )
            return
        listed = '\n  '.join(paths)
        raise ValueError(
            f'{len(paths)} broken image(s), more than max_broken='
            f'{self.max_broken} of LoadImage allows:\n  {listed}\n'
            f'The last one: {reason}\n'
            'Repair or remove them, or raise max_broken in the pipeline'
        )

    def __repr__(self) -> str:
        settings: dict[str, Any] = dict(
            max_broken=self.max_broken, channel_order=self.channel_order
        )
        inside = ', '.join(f'{k}={v!r}' for k, v in settings.items())
        return f'{type(self).__name__}({inside})'
