r"""Label images by clusters of a network's features: CC, k-means.

The config names two sets, `bank` and `query`, on top or in its KNNProbeHook;
their labels are not used. The features of the bank are clustered by k-means,
both sets get the number of the nearest centre, and two lists are written,
`train.txt` and `val.txt`, as mmpretrain's `CustomDataset` reads them.

Example:
    python tools/dataset_converters/pseudo_labels.py CONFIG --part teacher \
        --clusters 2000 --out-dir data/imagenet/meta/moco-r50_k2000
"""

import argparse
import sys
from pathlib import Path

from mmssd.apis.cli import readable_errors
from mmssd.evaluation import cli


def main(argv: list[str] | None = None) -> None:
    """Write both lists, and say how even the clusters are."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    cli.add_arguments(parser, kmeans=True)
    parser.add_argument('--clusters', type=int, default=2000, metavar='K')
    parser.add_argument(
        '--iterations', type=int, default=20, help='of k-means, at most'
    )
    parser.add_argument(
        '--mini-batch',
        type=int,
        metavar='ROWS',
        help='cluster in steps of so many rows, for large sets',
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--teacher-cache',
        type=Path,
        metavar='FOLDER',
        help='take the features of the bank from there, made by '
        'tools/cache_teacher.py --images bank',
    )
    parser.add_argument(
        '--out-dir', type=Path, required=True, help='folder of both lists'
    )
    args = parser.parse_args(argv)
    with readable_errors():
        from mmengine.registry import DefaultScope
        from mmpretrain.registry import DATASETS

        from mmssd.apis.config import load_config
        from mmssd.apis.teacher_cache import cached_bank
        from mmssd.evaluation.from_config import labelled_sets
        from mmssd.evaluation.pseudo_labels import (
            assign_clusters,
            cluster_features,
            write_annotations,
        )

        config = load_config(args.config, args.cfg_options)
        images, roots = {}, {}
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            for name, found in labelled_sets(config).items():
                dataset = DATASETS.build(found)
                infos = [dataset.get_data_info(i) for i in range(len(dataset))]
                if not all('img_path' in info for info in infos):
                    raise ValueError(
                        f'the {name} set ({type(dataset).__name__}) holds '
                        'images without a file each: a list cannot name them'
                    )
                images[name] = [info['img_path'] for info in infos]
                roots[name] = dataset.img_prefix or dataset.data_root
        if args.teacher_cache is None:
            found = cli.read_features(args)
            bank, query = found['bank'][0].cpu(), found['query'][0].cpu()
        else:
            if args.part != 'teacher':
                raise ValueError(
                    f'--teacher-cache goes with --part teacher, not with '
                    f'--part {args.part}'
                )
            bank = cached_bank(config, args.teacher_cache)
            query = cli.read_features(args, ['query'])['query'][0].cpu()
        labels, centres = cluster_features(
            bank,
            args.clusters,
            args.iterations,
            args.mini_batch,
            args.seed,
        )
        lists = {
            'bank': ('train.txt', labels),
            'query': (
                'val.txt',
                assign_clusters(query, centres),
            ),
        }
        for name, (file, assigned) in lists.items():
            write_annotations(
                args.out_dir / file, images[name], assigned, roots[name]
            )
        sizes = labels.bincount(minlength=args.clusters)
        print(
            cli.describe(
                args,
                clusters=args.clusters,
                seed=args.seed,
                images=len(labels),
                smallest=int(sizes.min()),
                largest=int(sizes.max()),
                out_dir=str(args.out_dir),
            )
        )


if __name__ == '__main__':
    sys.exit(main())
