"""Where the class token of a vision transformer looks.

Shape legend: N images, A attention heads, K tokens, D width of a head,
H, W image size, h, w patches.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _AttentionRecorder(TorchFunctionMode):
    """Note the attention of the first token wherever one is computed.

    Either by PyTorch's fused function, from the very queries and keys that
    the network gives it, or as the result of a softmax.
    """

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Tensor] = []  # each (N, A, K)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = getattr(func, '__name__', '')
        if name == 'scaled_dot_product_attention':
            row = _first_row(*args, **kwargs)
            if row is not None:
                self.rows.append(row)
        elif name == 'softmax' and result.dim() == 4:
            self.rows.append(result[:, :, 0].clone())
        return result


def _first_row(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **kwargs,
) -> Tensor | None:
    """Softmax of the first query's scores, ``(N, A, K)``."""
    if query.dim() != 4 or is_causal or query.shape[:2] != key.shape[:2]:
        return None
    if scale is None:
        scale = 1 / math.sqrt(query.size(-1))
    scores = query[:, :, :1] @ key.transpose(-2, -1) * scale  # (N, A, 1, K)
    if attn_mask is not None:
        mask = attn_mask[..., :1, :]
        if mask.dtype == torch.bool:
            scores = scores.masked_fill(~mask, -math.inf)
        else:
            scores = scores + mask
    return scores.softmax(dim=-1)[:, :, 0]


class ClassAttention(NamedTuple):
    """Attention of the class token in one layer.

    Attributes:
        weights: ``(N, A, K)``, rows sum to 1: the extra tokens, of which the
            class token is the first, then the patches row by row.
        grid: ``(h, w)`` patches.
    """

    weights: Tensor
    grid: tuple[int, int]

    @property
    def maps(self) -> Tensor:
        """The weights of the patches, ``(N, A, h, w)``."""
        h, w = self.grid
        return self.weights[..., -h * w :].unflatten(-1, (h, w))


def _extra_tokens(backbone: nn.Module) -> int:
    network = getattr(backbone, 'timm_model', backbone)
    for name in ('num_extra_tokens', 'num_prefix_tokens'):
        if getattr(network, name, None) is not None:
            return int(getattr(network, name))
    return 1


def _grid(patches: int, height: int, width: int) -> tuple[int, int] | None:
    """Rows and columns of square patches that fill an image."""
    rows = round(math.sqrt(patches * height / width))
    if rows < 1 or patches % rows or height % rows:
        return None
    columns = patches // rows
    fits = columns * height == rows * width
    return (rows, columns) if fits else None


@torch.no_grad()
def class_attention(
    backbone: nn.Module, images: Tensor, layer: int = -1
) -> ClassAttention:
    r"""Return the attention of the class token to all tokens.

    Of every head, :math:`\mathrm{softmax}(q_0 K^\top / \sqrt{D})` with the
    query :math:`q_0` of the class token and the keys :math:`K`, as in
    `Emerging Properties in Self-Supervised Vision Transformers
    <https://arxiv.org/abs/2104.14294>`_, Figures 1 and 3. It is read where
    PyTorch computes it, so that any backbone with such an attention will do:
    the vision transformers of mmpretrain and timm, and the class attention
    of XCiT.

    Args:
        backbone: put in eval mode by the caller.
        images: ``(N, 3, H, W)``, as the backbone sees them.
        layer: index among the layers with such an attention, from 0, or from
            the end if negative. Defaults to the last one.

    Raises:
        ValueError: if the backbone has no class token or no such attention,
            or there is no such layer.
    """
    extra = _extra_tokens(backbone)
    name = type(backbone).__name__
    if extra < 1:
        raise ValueError(f'this {name} has no class token')
    with _AttentionRecorder() as recorder:
        backbone(images)
    height, width = images.shape[2:]
    found = []
    for row in recorder.rows:
        grid = _grid(row.size(-1) - extra, height, width)
        if grid and row.size(0) == len(images):
            found.append(ClassAttention(row, grid))
    if not found:
        raise ValueError(
            f'no attention of a class token to patches in a {name} at '
            f'{height} x {width} pixels: this is for vision transformers'
        )
    if not -len(found) <= layer < len(found):
        raise ValueError(
            f'layer {layer}: the {name} has {len(found)} layers in which the '
            'class token attends to patches, the first is 0'
        )
    return found[layer]


def enlarge(values: Tensor, height: int, width: int) -> np.ndarray:
    """Scale a map to [0, 1] by its largest value, and to an image's size.

    Args:
        values: ``(h, w)``, not negative.
        height: H.
        width: W.
    """
    found = values.cpu().float().numpy()
    found = found / max(found.max(), np.finfo(np.float32).tiny)
    return cv2.resize(found, (width, height), interpolation=cv2.INTER_LINEAR)
