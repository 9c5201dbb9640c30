r"""Draw where several networks look on the same images, by Grad-CAM.

Each network is a classifier with its checkpoint, such as the linear probes of
a teacher and of students. By default each map speaks for the class that the
network predicts.

Example:
    python tools/analysis/grad_cam.py --out grad_cam.png \
        --network teacher TEACHER_CONFIG teacher_probe.pth \
        --network student STUDENT_CONFIG student_probe.pth \
        --images a.jpg b.jpg c.jpg
"""

import argparse
import sys
from pathlib import Path

import torch

from mmssd.apis.cli import readable_errors
from mmssd.apis.config import load_config
from mmssd.visualization.grad_cam import (
    grad_cam,
    load_classifier,
    read_images,
)
from mmssd.visualization.pictures import draw_grid, heat


def main(argv: list[str] | None = None) -> None:
    """Draw a row for each image and a column for each network."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--network',
        nargs=3,
        action='append',
        required=True,
        metavar=('NAME', 'CONFIG', 'CHECKPOINT'),
        help='a column; may be given several times',
    )
    parser.add_argument('--images', nargs='+', required=True, help='files')
    parser.add_argument(
        '--classes',
        type=int,
        nargs='+',
        help='class indices, one for each image or one for all',
    )
    parser.add_argument('--out', required=True, help='PNG file to write')
    args = parser.parse_args(argv)
    with readable_errors():
        draw(args)
        print(args.out)


def draw(args: argparse.Namespace) -> None:
    """Compute the maps and draw them."""
    for path in args.images:
        if not Path(path).is_file():
            raise FileNotFoundError(f'there is no image {path}')
    count = len(args.images)
    wanted = args.classes
    if wanted and len(wanted) not in (1, count):
        raise ValueError(
            f'--classes: {len(wanted)} for {count} images; give one, or one '
            'for each'
        )
    classes = torch.tensor(wanted * (count // len(wanted))) if wanted else None
    pictures, captions = [], []
    for number, (_, path, checkpoint) in enumerate(args.network):
        config = load_config(path)
        model = load_classifier(config, checkpoint)
        images = read_images(config, args.images)
        data = model.data_preprocessor(dict(inputs=images))
        maps, logits = grad_cam(model, data['inputs'], classes)
        shown = [image.permute(1, 2, 0).numpy() for image in images]
        if model.data_preprocessor.to_rgb:
            shown = [image[..., ::-1] for image in shown]
        if number == 0:
            pictures.append(shown)
            captions.append([''] * count)
        pictures.append(
            [heat(*pair) for pair in zip(shown, maps, strict=True)]
        )
        chosen = logits.argmax(dim=1) if classes is None else classes
        scores = logits.softmax(dim=1).gather(1, chosen[:, None])[:, 0]
        captions.append(
            [
                f'class {label}: {100 * score:.0f} %'
                for label, score in zip(
                    chosen.tolist(), scores.tolist(), strict=True
                )
            ]
        )
    draw_grid(
        list(zip(*pictures, strict=True)),
        args.out,
        ['image', *(name for name, _, _ in args.network)],
        [Path(path).stem for path in args.images],
        list(zip(*captions, strict=True)),
    )


if __name__ == '__main__':
    sys.exit(main())
