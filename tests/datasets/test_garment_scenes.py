import hashlib
import json

import cv2
import numpy as np
import pytest
from mmpretrain.registry import DATASETS

import mmssd.datasets.garment_scenes as scenes
from mmssd.datasets.fashion_mnist import CLASSES, FashionMNISTArrays
from mmssd.datasets.garment_scenes import (
    MIN_PIXELS,
    GarmentScenes,
    SceneMaker,
    draw_garment,
    garment_mask,
    lay,
    load_backgrounds,
    make_garment_scenes,
    visible_masks,
    warp_garment,
)
from mmssd.evaluation import stratified_subset

PIPELINE = [dict(type='PackInputs')]


def contents(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


class TestMask:
    def test_pixels_above_zero_with_holes_filled(self):
        image = np.zeros((28, 28), np.uint8)
        image[4:20, 6:22] = 1  # faint pixels count
        image[8:12, 10:14] = 0  # a hole
        image[4, 12:14] = 0  # a notch, open to the outside
        expected = np.zeros((28, 28), bool)
        expected[4:20, 6:22] = True
        expected[4, 12:14] = False
        np.testing.assert_array_equal(garment_mask(image), expected)

    def test_keeps_parts_and_drops_specks(self):
        image = np.zeros((28, 28), np.uint8)
        image[0:10, 0:10] = 9  # 100 pixels
        image[20:21, 0:6] = 9  # 6 pixels: more than a twentieth of 101 stays
        image[24:26, 24:26] = 9  # 4 pixels: noise
        image[10, 10] = 9  # touches the large part at a corner
        mask = garment_mask(image)
        assert mask.sum() == 100 + 1 + 6
        assert not mask[24:26, 24:26].any()

    def test_black_image(self):
        with pytest.raises(ValueError, match='no mask'):
            garment_mask(np.zeros((28, 28), np.uint8))


class TestWarp:
    @pytest.fixture
    def garment(self):
        rng = np.random.default_rng(0)
        image = np.zeros((28, 28), np.uint8)
        image[5:17, 8:15] = rng.integers(1, 256, (12, 7))
        return image, image > 0

    def test_moved_by_whole_pixels_it_is_exact(self, garment):
        image, mask = garment
        grey, coverage = warp_garment(image, mask, 40, 1.0, x=3, y=20)
        expected = np.zeros((40, 40), bool)
        expected[20:32, 3:10] = True
        np.testing.assert_array_equal(coverage, expected)
        np.testing.assert_allclose(
            grey[20:32, 3:10], image[5:17, 8:15], rtol=1e-6
        )

    def test_flip_mirrors_inside_the_same_box(self, garment):
        image, mask = garment
        plain, _ = warp_garment(image, mask, 40, 1.0, x=3, y=20)
        flipped, coverage = warp_garment(
            image, mask, 40, 1.0, x=3, y=20, flip=True
        )
        assert coverage[20:32, 3:10].all()
        assert coverage.sum() == 12 * 7
        np.testing.assert_allclose(
            flipped[20:32, 3:10], plain[20:32, 3:10][:, ::-1], rtol=1e-6
        )

    @pytest.mark.parametrize('flip', [False, True])
    def test_doubled(self, garment, flip):
        image, mask = garment
        _, coverage = warp_garment(image, mask, 64, 2.0, x=4, y=6, flip=flip)
        expected = np.zeros((64, 64), bool)
        expected[6 : 6 + 24, 4 : 4 + 14] = True
        expected[[6, 6, 29, 29], [4, 17, 4, 17]] = False  # corners: 9/16
        got = coverage >= 0.5
        got[[6, 6, 29, 29], [4, 17, 4, 17]] = False
        np.testing.assert_array_equal(got, expected)

    def test_halved_covers_the_average(self):
        image = np.zeros((28, 28), np.uint8)
        image[4:12, 4:8] = 100
        _, coverage = warp_garment(image, image > 0, 16, 0.5, x=3, y=5)
        assert coverage.sum() == pytest.approx(4 * 2, abs=0.3)
        got = coverage >= 0.5
        assert got[5:9, 3:5].all() and got.sum() == 8

    def test_edges_keep_their_grey(self, garment):
        _, mask = garment
        grey, coverage = warp_garment(
            mask * np.uint8(180), mask, 60, 1.7, x=2.3, y=7.9
        )
        edge = (coverage > 0.05) & (coverage < 0.95)
        assert edge.any()
        np.testing.assert_allclose(grey[edge], 180, rtol=1e-4)

    def test_drawn_garments_lie_inside(self, garment):
        rng = np.random.default_rng(0)
        for _ in range(50):
            _, coverage = draw_garment(rng, garment[0], 32, (0.5, 1.0))
            rows, cols = np.nonzero(coverage >= 0.5)
            sides = np.ptp(rows) + 1, np.ptp(cols) + 1
            assert 15 <= max(sides) <= 32
            # 84 pixels of a box 12 high: coverage keeps its area
            zoom = max(sides) / 12
            assert coverage.sum() == pytest.approx(84 * zoom**2, rel=0.25)


class TestOcclusion:
    def test_two_garments(self):
        # A covers columns 0..5, B columns 4..9 and lies on top
        a, b = np.zeros((2, 8, 12), np.float32)
        a[:, 0:6], b[:, 4:10] = 1, 1
        mask_a, mask_b = visible_masks([a, b], min_pixels=1)
        assert mask_a[:, :4].all() and mask_a.sum() == 8 * 4
        assert mask_b[:, 4:10].all() and mask_b.sum() == 8 * 6
        scene = np.full((8, 12, 3), 7, np.float32)
        for value, coverage in ((100, a), (200, b)):
            lay(scene, np.full((8, 12, 3), value, np.float32), coverage)
        np.testing.assert_array_equal(
            scene[0, :, 0], [100] * 4 + [200] * 6 + [7] * 2
        )

    def test_half_covered_pixels_belong_to_the_garment(self):
        coverage = np.full((8, 8), 0.49, np.float32)
        coverage[2:4] = 0.5
        (mask,) = visible_masks([coverage], min_pixels=1)
        assert mask[2:4].all() and mask.sum() == 16

    def test_a_remnant_leaves_the_scene(self):
        # B leaves 2 of A's 10 columns: 20 % of it, less than a quarter
        a, b = np.zeros((2, 10, 12), np.float32)
        a[:, 0:10], b[:, 2:12] = 1, 1
        mask_a, mask_b = visible_masks([a, b], min_pixels=1)
        assert mask_a is None
        assert mask_b.sum() == 100

    def test_what_is_left_out_hides_nothing(self):
        # C hides all of B; B would have hidden all of A
        a = b = np.zeros((10, 12), np.float32)
        a, b, c = np.zeros((3, 10, 12), np.float32)
        a[2:8, 2:8], b[1:9, 1:9], c[:, 1:9] = 1, 1, 1
        a[:, 9:12] = 1
        mask_a, mask_b, mask_c = visible_masks([a, b, c], min_pixels=1)
        assert mask_b is None
        assert mask_a[:, 9:12].all() and mask_a.sum() == 30
        assert mask_c.sum() == 80

    def test_few_pixels_are_no_instance(self):
        tiny = np.zeros((20, 20), np.float32)
        tiny[0, : MIN_PIXELS - 21] = 1
        assert visible_masks([tiny]) == [None]


class TestScenes:
    def test_multi(self, garments):
        maker = SceneMaker(
            garments.train_images, garments.train_labels, 'train', 0
        )
        counts = set()
        for index in range(30):
            image, semantic, instances = maker.multi(index, 96)
            assert image.shape == (96, 96, 3) and image.dtype == np.uint8
            counts.add(len(instances))
            union = np.zeros((96, 96), np.uint8)
            for label, mask in instances:
                assert mask.sum() >= MIN_PIXELS
                assert not union[mask].any()  # disjoint
                union[mask] = label + 1
            np.testing.assert_array_equal(semantic, union)
        assert counts <= set(range(1, 7)) and len(counts) > 3

    def test_pixels_of_a_mask_show_its_garment(self, garments):
        # white garments, black background: the mask is where it is bright
        maker = SceneMaker(
            np.where(garments.train_images > 0, 255, 0).astype(np.uint8),
            garments.train_labels,
            'train',
            3,
        )
        maker.photos = [np.zeros((200, 200, 3), np.uint8)]
        for index in range(10):
            image, semantic, _ = maker.multi(index, 128)
            mask = (semantic > 0).astype(np.uint8)
            inner = cv2.erode(mask, np.ones((3, 3)))
            outer = cv2.dilate(mask, np.ones((5, 5)))
            assert image.max(2)[inner > 0].min() > 0.5 * 255 * 0.7
            assert image.max(2)[outer == 0].max() < 16

    def test_every_garment_is_used_once(self, garments):
        maker = SceneMaker(
            garments.test_images, garments.test_labels, 'val', 0
        )
        labels = [maker.single(i, 32)[1] for i in range(20)]
        assert sorted(labels) == sorted(garments.test_labels.tolist())

    def test_background_crops_are_disjoint(self):
        import skimage.data

        for name, left, right in zip(
            scenes.PHOTOS,
            load_backgrounds('train'),
            load_backgrounds('val'),
            strict=True,
        ):
            photo = cv2.imread(f'{skimage.data.__path__[0]}/{name}')
            assert left.shape[1] + right.shape[1] == photo.shape[1]
            np.testing.assert_array_equal(
                np.concatenate([left, right], axis=1), photo[..., ::-1]
            )

    def test_a_missing_photo(self, monkeypatch):
        monkeypatch.setattr(scenes, 'PHOTOS', ('no_such_photo.png',))
        with pytest.raises(FileNotFoundError, match='scikit-image'):
            load_backgrounds('train')


class TestFolder:
    def test_layout(self, small, garments):
        images = np.load(small.folder / 'single_train_images.npy')
        labels = np.load(small.folder / 'single_train_labels.npy')
        assert images.shape == (30, 32, 32, 3) and images.dtype == np.uint8
        assert labels.shape == (30,) and labels.dtype == np.int64
        assert small.manifest['seed'] == 0
        name = 'single_train_images.npy'
        assert (
            small.manifest['sha256'][name]
            == hashlib.sha256(images.tobytes()).hexdigest()
        )
        written = json.loads((small.folder / 'manifest.json').read_text())
        assert written == small.manifest

    def test_coco(self, small):
        from pycocotools import mask as coco_mask
        from pycocotools.coco import COCO

        multi = small.folder / 'multi'
        coco = COCO(str(multi / 'instances_train.json'))
        assert len(coco.imgs) == 6
        assert [c['name'] for c in coco.cats.values()] == list(CLASSES)
        for image_id, image in coco.imgs.items():
            path = multi / 'train' / 'images' / image['file_name']
            assert cv2.imread(str(path)).shape == (128, 128, 3)
            semantic = cv2.imread(
                str(multi / 'train' / 'semantic' / image['file_name']),
                cv2.IMREAD_UNCHANGED,
            )
            union = np.zeros((128, 128), np.uint8)
            annotations = coco.imgToAnns[image_id]
            assert annotations
            for annotation in annotations:
                mask = coco.annToMask(annotation).astype(bool)
                assert mask.sum() == annotation['area']
                x, y, w, h = annotation['bbox']
                rows, cols = np.nonzero(mask)
                assert (x, y) == (cols.min(), rows.min())
                assert (w, h) == (np.ptp(cols) + 1, np.ptp(rows) + 1)
                assert not union[mask].any()
                union[mask] = annotation['category_id']
            np.testing.assert_array_equal(union, semantic)
            rles = [a['segmentation'] for a in annotations]
            merged = coco_mask.decode(coco_mask.merge(rles))
            np.testing.assert_array_equal(merged, semantic > 0)

    def test_any_number_of_workers(
        self, small, garments, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(scenes, 'CHUNK', 4)
        make_garment_scenes(
            tmp_path / 'other',
            garments,
            single=(30, 20),
            multi=(6, 3),
            num_workers=2,
        )
        assert contents(tmp_path / 'other') == contents(small.folder)

    def test_seeds_differ(self, small, garments, tmp_path):
        make_garment_scenes(
            tmp_path / 'other', garments, seed=1, single=(30, 20), multi=(6, 3)
        )
        a, b = (
            np.load(folder / 'single_train_images.npy')
            for folder in (small.folder, tmp_path / 'other')
        )
        assert (a != b).mean() > 0.5

    def test_garments_of_val_are_from_the_test_split(self, garments, tmp_path):
        # garments of train are bright, of val dark
        bright = np.where(garments.train_images > 0, 255, 0).astype(np.uint8)
        dark = np.where(garments.test_images > 0, 1, 0).astype(np.uint8)
        arrays = FashionMNISTArrays(
            bright, garments.train_labels, dark, garments.test_labels
        )
        make_garment_scenes(
            tmp_path / 'x',
            arrays,
            single=(20, 20),
            single_scale=(1, 1),
            multi=(0, 0),
            num_workers=1,
        )
        train, val = (
            np.load(tmp_path / 'x' / f'single_{split}_images.npy')
            for split in scenes.SPLITS
        )
        # a centre pixel is always covered: all garments are as wide
        assert (train[:, 12:20].max(3).max(2) > 170).all()
        assert (val.max(3).min((1, 2)) <= 2).all()

    def test_made_once(self, small, garments):
        before = contents(small.folder)
        path = small.folder / 'single_val_labels.npy'
        stamp = path.stat().st_mtime_ns
        again = make_garment_scenes(
            small.folder, garments, single=(30, 20), multi=(6, 3)
        )
        assert again == small.manifest
        assert path.stat().st_mtime_ns == stamp
        assert contents(small.folder) == before
        leftovers = [p.name for p in small.folder.parent.iterdir()]
        assert leftovers == ['scenes']

    @pytest.mark.parametrize(
        'lost',
        [
            'manifest.json',
            'single_train_images.npy',
            'multi/instances_val.json',
            'multi/train/semantic/000005.png',
        ],
    )
    def test_half_a_folder_is_made_anew(self, small, garments, lost):
        before = contents(small.folder)
        (small.folder / lost).unlink()
        make_garment_scenes(
            small.folder, garments, single=(30, 20), multi=(6, 3)
        )
        assert contents(small.folder) == before

    def test_interrupted(self, garments, tmp_path, monkeypatch):
        def interrupt(*args):
            raise KeyboardInterrupt

        options = dict(single=(4, 4), multi=(2, 1), num_workers=1)
        with monkeypatch.context() as patch:
            patch.setattr(scenes, '_write_multi', interrupt)
            with pytest.raises(KeyboardInterrupt):
                make_garment_scenes(tmp_path / 'x', garments, **options)
        assert not (tmp_path / 'x').exists()
        make_garment_scenes(tmp_path / 'x', garments, **options)
        assert (tmp_path / 'x' / 'manifest.json').is_file()
        assert not (tmp_path / 'x.part').exists()

    def test_other_arguments_replace_it(self, small, garments):
        make_garment_scenes(
            small.folder, garments, single=(5, 5), multi=(1, 1)
        )
        assert len(np.load(small.folder / 'single_val_images.npy')) == 5
        names = [
            p.name for p in (small.folder / 'multi/train/images').iterdir()
        ]
        assert names == ['000000.png']

    def test_foreign_files_are_safe(self, garments, tmp_path):
        (tmp_path / 'thesis.tex').write_text('precious')
        with pytest.raises(ValueError, match='thesis.tex'):
            make_garment_scenes(tmp_path, garments, single=(1, 1))
        assert (tmp_path / 'thesis.tex').read_text() == 'precious'

    @pytest.mark.parametrize(
        'wrong',
        [
            dict(single_size=8),
            dict(multi_size=2000),
            dict(single_scale=(0.9, 0.5)),
            dict(single_scale=(0.5, 1.5)),
            dict(single=(5,)),
            dict(multi=(5, -1)),
            dict(seed=-1),
        ],
    )
    def test_out_of_range(self, garments, tmp_path, wrong):
        (name,) = wrong
        with pytest.raises(ValueError, match=name):
            make_garment_scenes(tmp_path / 'x', garments, **wrong)
        assert not (tmp_path / 'x').exists()


class TestDataset:
    def test_items(self, small):
        data = DATASETS.build(
            dict(
                type='GarmentScenes',
                split='val',
                data_root=str(small.folder),
                pipeline=PIPELINE,
            )
        )
        assert len(data) == 20
        images = np.load(small.folder / 'single_val_images.npy')
        labels = np.load(small.folder / 'single_val_labels.npy')
        item = data[7]
        np.testing.assert_array_equal(
            item['inputs'].numpy(), images[7].transpose(2, 0, 1)
        )
        assert item['data_samples'].gt_label.item() == labels[7]
        assert data.CLASSES == CLASSES
        np.testing.assert_array_equal(data.get_gt_labels(), labels)
        assert data.get_cat_ids(3) == [labels[3]]
        assert 'scenes' in repr(data)

    def test_a_transform_may_write_into_the_image(self, small):
        data = GarmentScenes('train', str(small.folder))
        before = data[0]['img'].copy()
        data[0]['img'][:] = 0
        np.testing.assert_array_equal(data[0]['img'], before)

    def test_arrays(self, small):
        data = GarmentScenes('train', str(small.folder))
        images, labels = data.arrays()
        assert isinstance(images, np.memmap)  # nothing was copied
        assert images.shape == (30, 32, 32, 3)
        np.testing.assert_array_equal(labels, data.get_gt_labels())

    def test_subset(self, small):
        def build(**kwargs):
            return GarmentScenes('train', str(small.folder), **kwargs)

        labels = build().get_gt_labels()
        half = build(subset=0.5)
        for label in np.unique(labels):
            count = (labels == label).sum()
            kept = (half.get_gt_labels() == label).sum()
            assert kept == max(1, int(count * 0.5 + 0.5))
        images, kept_labels = half.arrays()
        assert len(images) == len(half) == len(kept_labels)
        for i, image in enumerate(images):
            np.testing.assert_array_equal(half[i]['img'], image)
        again, _ = build(subset=0.5).arrays()
        np.testing.assert_array_equal(images, again)
        other, _ = build(subset=0.5, seed=5).arrays()
        assert images.shape != other.shape or (images != other).any()

    def test_a_number_per_class(self, small):
        def build(count, **kwargs):
            return GarmentScenes(
                'train', str(small.folder), per_class=count, **kwargs
            )

        labels = GarmentScenes('train', str(small.folder)).get_gt_labels()
        least = min((labels == label).sum() for label in np.unique(labels))
        data = build(1)
        kept = data.get_gt_labels()
        np.testing.assert_array_equal(np.sort(kept), np.unique(labels))
        images, _ = data.arrays()
        rows = stratified_subset(labels, per_class=1)
        np.testing.assert_array_equal(images, data.images[rows])
        assert '1 per class' in repr(data)
        with pytest.raises(ValueError, match='has only'):
            build(int(least) + 1)
        with pytest.raises(ValueError, match='subset=0.5 and per_class=1'):
            build(1, subset=0.5)

    def test_indices_of_the_base_class(self, small):
        data = GarmentScenes('train', str(small.folder), indices=[4, 2])
        images, _ = data.arrays()
        np.testing.assert_array_equal(images[0], data.images[4])
        np.testing.assert_array_equal(images[1], data.images[2])

    def test_wrong_arguments(self, small, tmp_path):
        with pytest.raises(ValueError, match="split='test'"):
            GarmentScenes('test', str(small.folder))
        with pytest.raises(ValueError, match='subset=2'):
            GarmentScenes('train', str(small.folder), subset=2)
        with pytest.raises(FileNotFoundError, match='garment_scenes.py --out'):
            GarmentScenes('train', str(tmp_path / 'none'))


@pytest.mark.parametrize('split', scenes.SPLITS)
def test_other_libraries_read_the_multi_scenes(small, split):
    pytest.importorskip('mmdet')
    pytest.importorskip('mmseg')
    from mmdet.datasets import CocoDataset
    from mmseg.datasets import BaseSegDataset

    boxes = CocoDataset(
        data_root=str(small.folder / 'multi'),
        ann_file=f'instances_{split}.json',
        data_prefix=dict(img=f'{split}/images'),
        metainfo=dict(classes=CLASSES),
        pipeline=[],
    )
    maps = BaseSegDataset(
        data_root=str(small.folder / 'multi' / split),
        data_prefix=dict(img_path='images', seg_map_path='semantic'),
        img_suffix='.png',
        metainfo=dict(
            classes=scenes.SEMANTIC_CLASSES, palette=scenes.SEMANTIC_PALETTE
        ),
        pipeline=[],
    )
    assert len(boxes) == len(maps) == (6 if split == 'train' else 3)
    assert boxes[0]['instances']
    assert boxes.metainfo['classes'] == CLASSES
