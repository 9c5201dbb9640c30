r"""Draw where several networks look on the same images, by Grad-CAM.

Each network is a classifier with its checkpoint, such as the linear probe of
a teacher or a student. For a network without classes a linear classifier is
fitted first, on the frozen features of the labelled images, `bank`, that its
config names on top or in its KNNProbeHook (an untrained classifier without
such images speaks for itself). By default each map speaks for the
class that the network predicts.

Examples:
    python tools/analysis/grad_cam.py --out grad_cam.png \
        --network teacher TEACHER_CONFIG teacher_probe.pth \
        --network student STUDENT_CONFIG student_probe.pth \
        --images a.jpg b.jpg c.jpg
    python tools/analysis/grad_cam.py --out grad_cam.png \
        --network SwAV SWAV_CONFIG swav.pth \
        --network OSS OSS_CONFIG oss.pth \
        --network 'its teacher' OSS_CONFIG oss.pth teacher \
        --queries 3 14 159
"""

import argparse
import sys

import torch
from mmengine.logging import MMLogger
from torch import Tensor, nn

from mmssd.apis.cli import readable_errors
from mmssd.apis.config import load_config
from mmssd.evaluation import extract_features
from mmssd.evaluation.from_config import labelled_sets
from mmssd.visualization.grad_cam import fit_probe, grad_cam, load_classifier
from mmssd.visualization.networks import (
    UNTRAINED,
    Network,
    add_images,
    add_networks,
    build_sets,
    check_networks,
    class_names,
    read_networks,
    stack_images,
    take_images,
    to_picture,
)
from mmssd.visualization.pictures import draw_grid, heat


def main(argv: list[str] | None = None) -> None:
    """Draw a row for each image and a column for each network."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_networks(parser)
    add_images(parser)
    parser.add_argument(
        '--classes',
        type=int,
        nargs='+',
        help='class indices, one for each image or one for all',
    )
    parser.add_argument('--out', required=True, help='PNG file to write')
    args = parser.parse_args(argv)
    with readable_errors():
        # mmengine would print every initialised parameter
        MMLogger.get_current_instance().setLevel('WARNING')
        draw(args)
        print(args.out)


def read_classifier(
    values: list[str],
) -> tuple[Network, nn.Module, list[str] | None]:
    """Return a network, its classifier, and the names of its classes.

    Raises:
        ValueError: if it has no classes, and no labelled images to fit some.
    """
    name, path, checkpoint, *part = values
    config = load_config(path)
    if config.model.get('head') and not part:
        if checkpoint != UNTRAINED:
            model = load_classifier(config, checkpoint)
            return Network(name, config, model), model, None
        try:
            labelled_sets(config)
        except ValueError:  # nothing to fit a better classifier to
            (network,) = read_networks([values])
            return network, network.model, None
    (network,) = read_networks([values])
    (bank,) = build_sets(config, ['bank'])
    features, labels = extract_features(network.model, bank, network.part)
    if labels is None:
        raise ValueError(
            f'--network {name}: the bank set of {path} has no labels to fit '
            'a classifier to'
        )
    model = fit_probe(network.backbone, features, labels)
    return network, model, class_names(bank)


def draw(args: argparse.Namespace) -> None:
    """Compute the maps and draw them."""
    check_networks(args.network)
    count = len(args.images or args.queries)
    wanted = args.classes
    if wanted and len(wanted) not in (1, count):
        raise ValueError(
            f'--classes: {len(wanted)} for {count} images; give one, or one '
            'for each'
        )
    classes = torch.tensor(wanted * (count // len(wanted))) if wanted else None
    # before the work of fitting
    first = load_config(args.network[0][1])
    take_images(first, args.images, args.queries)
    pictures, captions = [], []
    for values in args.network:
        network, model, names = read_classifier(values)
        images = take_images(network.config, args.images, args.queries)
        seen = network.prepare(stack_images(images))
        maps, logits = grad_cam(model, seen, classes)
        shown = [
            to_picture(image, network.model.data_preprocessor)
            for image in images.values()
        ]
        if not pictures:
            pictures.append(shown)
            captions.append([''] * count)
        pictures.append(
            [heat(*pair) for pair in zip(shown, maps, strict=True)]
        )
        captions.append(describe(logits, classes, names))
    draw_grid(
        list(zip(*pictures, strict=True)),
        args.out,
        ['image', *(values[0] for values in args.network)],
        list(images),
        list(zip(*captions, strict=True)),
        title='Grad-CAM of the last stage; blue: nothing, red: the most of '
        'the map',
    )


def describe(
    logits: Tensor, classes: Tensor | None, names: list[str] | None
) -> list[str]:
    """Name the class that each map speaks for, and its probability."""
    chosen = logits.argmax(dim=1) if classes is None else classes
    scores = logits.softmax(dim=1).gather(1, chosen[:, None])[:, 0]
    return [
        f'{names[label] if names else f"class {label}"}: {100 * score:.0f} %'
        for label, score in zip(chosen.tolist(), scores.tolist(), strict=True)
    ]


if __name__ == '__main__':
    sys.exit(main())
