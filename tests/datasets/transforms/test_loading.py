import copy
import io

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import TRANSFORMS
from PIL import Image
from torch.utils.data import DataLoader

from mmssd.datasets.transforms.loading import BrokenFiles, LoadImage, to_rgb

RED, GREEN, BLUE = (200, 30, 40), (20, 180, 60), (10, 70, 220)


def load(path, **kwargs):
    return LoadImage(**kwargs)(dict(img_path=str(path)))['img']


def constant(mode, colour, size=(5, 4)):
    return Image.new(mode, size, colour)


class TestModes:
    """Each kind of file, written to disk and read."""

    def read(self, tmp_path, image, name='x.png', **options):
        image.save(tmp_path / name, **options)
        pixels = load(tmp_path / name, channel_order='rgb')
        assert pixels.dtype == np.uint8
        assert pixels.shape == (image.height, image.width, 3)
        return pixels

    @pytest.mark.parametrize('name', ['x.png', 'x.bmp', 'x.tif', 'x.webp'])
    def test_rgb(self, tmp_path, name):
        rng = np.random.default_rng(0)
        array = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
        options = dict(lossless=True) if name == 'x.webp' else {}
        got = self.read(tmp_path, Image.fromarray(array), name, **options)
        np.testing.assert_array_equal(got, array)

    def test_jpeg(self, tmp_path):
        got = self.read(tmp_path, constant('RGB', RED), 'x.JPG')
        np.testing.assert_allclose(got, np.full((4, 5, 3), RED), atol=4)

    @pytest.mark.parametrize('name', ['x.png', 'x.jpg', 'x.tif'])
    def test_grey(self, tmp_path, name):
        got = self.read(tmp_path, constant('L', 77), name)
        assert (got == 77).all()

    def test_black_and_white(self, tmp_path):
        array = np.eye(4, dtype=bool)
        got = self.read(tmp_path, Image.fromarray(array))
        np.testing.assert_array_equal(got[..., 1], array * 255)

    def test_palette(self, tmp_path):
        image = Image.new('P', (2, 1))
        image.putpalette([*RED, *GREEN])
        image.putdata([1, 0])
        got = self.read(tmp_path, image)
        np.testing.assert_array_equal(got, [[GREEN, RED]])

    def test_palette_with_a_transparent_colour(self, tmp_path):
        image = Image.new('P', (2, 1))
        image.putpalette([*RED, *GREEN])
        image.putdata([1, 0])
        got = self.read(tmp_path, image, transparency=1)
        np.testing.assert_array_equal(got, [[(255,) * 3, RED]])

    @pytest.mark.parametrize('name', ['x.png', 'x.tif', 'x.webp'])
    def test_transparency_lies_over_white(self, tmp_path, name):
        array = np.zeros((1, 3, 4), np.uint8)
        array[0] = [(*RED, 255), (*RED, 0), (0, 0, 0, 51)]
        options = dict(lossless=True) if name == 'x.webp' else {}
        got = self.read(tmp_path, Image.fromarray(array), name, **options)
        # 51 / 255 = 1/5 of black over white: 4/5 of 255 = 204
        expected = [[RED, (255,) * 3, (204,) * 3]]
        np.testing.assert_allclose(got, expected, atol=1)

    def test_grey_with_transparency(self, tmp_path):
        array = np.array([[[80, 255], [80, 0]]], np.uint8)
        got = self.read(tmp_path, Image.fromarray(array, 'LA'))
        np.testing.assert_array_equal(got[0, :, 0], [80, 255])

    @pytest.mark.parametrize('name', ['x.png', 'x.tif'])
    def test_16_bit_grey(self, tmp_path, name):
        array = np.array([[0, 257, 32896, 65535]], np.uint16)
        got = self.read(tmp_path, Image.fromarray(array), name)
        # x * 255 / 65535 = x / 257
        np.testing.assert_array_equal(got[0, :, 2], [0, 1, 128, 255])

    def test_16_bit_colour(self, tmp_path):
        cv2 = pytest.importorskip('cv2')
        array = np.full((4, 5, 3), RED, np.uint16) * 257
        for name in ('x.png', 'x.tif'):
            cv2.imwrite(str(tmp_path / name), array[..., ::-1])
            got = load(tmp_path / name, channel_order='rgb')
            np.testing.assert_allclose(
                got, np.full((4, 5, 3), RED), atol=1, err_msg=name
            )

    def test_32_bit_integers(self):
        array = np.array([[0, 2**30, 2**31 - 1]], np.int32)
        got = to_rgb(Image.fromarray(array))
        np.testing.assert_array_equal(got[0, :, 0], [0, 128, 255])

    def test_floats(self):
        for values, expected in (
            ([-0.5, 0.5, 1, np.nan], [0, 128, 255, 0]),
            ([-5, 100.4, 300, 255], [0, 100, 255, 255]),
        ):
            array = np.array([values], np.float32)
            got = to_rgb(Image.fromarray(array))
            np.testing.assert_array_equal(got[0, :, 0], expected)

    @pytest.mark.parametrize('name', ['x.jpg', 'x.tif'])
    def test_cmyk(self, tmp_path, name):
        # no cyan, full magenta, full yellow: red
        image = constant('CMYK', (0, 255, 255, 0), (16, 16))
        got = self.read(tmp_path, image, name)
        np.testing.assert_allclose(
            got, np.full((16, 16, 3), (255, 0, 0)), atol=6
        )

    def test_orientation_of_the_camera(self, tmp_path):
        image = constant('RGB', RED, (6, 3))
        image.paste(BLUE, (0, 0, 2, 3))  # the left third
        exif = Image.Exif()
        exif[0x0112] = 6  # to be shown turned clockwise by a quarter
        image.save(tmp_path / 'x.png', exif=exif)
        got = load(tmp_path / 'x.png', channel_order='rgb')
        assert got.shape == (6, 3, 3)
        assert (got[:2] == BLUE).all()  # left has become top
        assert (got[2:] == RED).all()

    def test_first_of_several_frames(self, tmp_path):
        frames = [constant('RGB', RED), constant('RGB', BLUE)]
        got = self.read(
            tmp_path,
            frames[0],
            'x.tif',
            save_all=True,
            append_images=frames[1:],
        )
        assert (got == RED).all()


def test_as_mmcv_loads(tmp_path):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)
    Image.fromarray(array).save(tmp_path / 'x.png')
    path = str(tmp_path / 'x.png')
    ours = TRANSFORMS.build(dict(type='LoadImage'))(dict(img_path=path))
    theirs = TRANSFORMS.build(dict(type='LoadImageFromFile'))(
        dict(img_path=path)
    )
    np.testing.assert_array_equal(ours.pop('img'), theirs.pop('img'))
    assert ours == theirs
    rgb = load(path, channel_order='rgb')
    np.testing.assert_array_equal(rgb, array)


@pytest.mark.parametrize(
    'wrong', [dict(max_broken=-1), dict(channel_order='hsv')]
)
def test_wrong_arguments(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=name):
        LoadImage(**wrong)


class TestBroken:
    @pytest.fixture
    def folder(self, tmp_path):
        """Thirty good pictures and five broken ones."""
        for number in range(30):
            constant('RGB', (number, 0, 0)).save(tmp_path / f'{number}.png')
        whole = io.BytesIO()
        rng = np.random.default_rng(0)
        noise = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(whole, 'JPEG')
        (tmp_path / 'b0.jpg').write_bytes(whole.getvalue()[:900])
        whole = io.BytesIO()
        Image.fromarray(noise).save(whole, 'PNG')
        (tmp_path / 'b1.png').write_bytes(whole.getvalue()[:2000])
        (tmp_path / 'b2.png').write_bytes(b'<html>404</html>')
        (tmp_path / 'b3.png').touch()
        return tmp_path  # and b4.png does not exist

    def paths(self, folder):
        good = [folder / f'{number}.png' for number in range(30)]
        broken = ['b0.jpg', 'b1.png', 'b2.png', 'b3.png', 'b4.png']
        return [*good, *(folder / name for name in broken)]

    def dataset(self, folder, max_broken):
        class Listed(BaseDataset):
            def load_data_list(self):
                return [dict(img_path=str(p)) for p in paths]

        paths = self.paths(folder)
        return Listed('', pipeline=[LoadImage(max_broken)])

    def test_others_take_their_place(self, folder):
        data = self.dataset(folder, max_broken=5)
        images = [data[i]['img'] for i in range(35)]
        assert all(image.shape == (4, 5, 3) for image in images)
        found = data.pipeline.transforms[0].broken.paths()
        assert found == sorted(map(str, self.paths(folder)[30:]))
        for i in range(30, 35):  # the second epoch counts nothing twice
            data[i]

    def test_beyond_the_limit_with_the_list(self, folder):
        data = self.dataset(folder, max_broken=2)
        data[30], data[31]
        with pytest.raises(ValueError) as caught:
            data[32]
        message = str(caught.value)
        for name in ('b0.jpg', 'b1.png', 'b2.png'):
            assert str(folder / name) in message
        assert '3 broken' in message and 'max_broken=2' in message
        assert 'UnidentifiedImageError' in message  # why

    def test_none_are_allowed_by_default(self, folder):
        with pytest.raises(ValueError, match='b4.png'):
            load(folder / 'b4.png')

    def test_logged(self, folder, caplog, monkeypatch):
        from mmengine.logging import MMLogger

        lines = []
        logger = MMLogger.get_current_instance()
        monkeypatch.setattr(logger, 'error', lines.append)
        data = self.dataset(folder, max_broken=5)
        for _ in range(2):
            data[30], data[33]
        assert len(lines) == 2
        assert '1 of at most 5' in lines[0] and 'b0.jpg' in lines[0]
        assert '2 of at most 5' in lines[1] and 'b3.png' in lines[1]

    def loader(self, data, method):
        order = [*range(30, 35), *range(30)]  # the broken ones first
        return DataLoader(
            data,
            batch_size=1,
            sampler=order,
            num_workers=3,
            collate_fn=pseudo_collate,
            multiprocessing_context=method,
        )

    def test_workers_share_the_count(self, folder):
        # each of three workers meets two of the five at most
        data = self.dataset(folder, max_broken=5)
        assert len(list(self.loader(data, 'fork'))) == 35
        found = data.pipeline.transforms[0].broken.paths()
        assert len(found) == 5  # seen by the process that started them
        data = self.dataset(folder, max_broken=4)
        with pytest.raises(ValueError) as caught:
            list(self.loader(data, 'fork'))
        for path in self.paths(folder)[30:]:
            assert str(path) in str(caught.value)

    @pytest.mark.dist
    def test_spawned_workers_share_it_too(self, folder):
        from mmpretrain.datasets import CustomDataset

        data = CustomDataset(
            str(folder), with_label=False, pipeline=[LoadImage(4)]
        )
        loader = DataLoader(
            data,
            batch_size=2,
            num_workers=2,
            collate_fn=pseudo_collate,
            multiprocessing_context='spawn',
        )
        assert len(list(loader)) == 17  # 34 files
        found = data.pipeline.transforms[0].broken.paths()
        assert len(found) == 4

    def test_a_copy_still_counts(self, folder):
        data = self.dataset(folder, max_broken=5)
        copy.deepcopy(data.pipeline.transforms[0])(
            dict(img_path=str(folder / 'b3.png'))
        )
        assert len(data.pipeline.transforms[0].broken.paths()) == 1


class TestBrokenFiles:
    def test_set_of_paths(self):
        broken = BrokenFiles(2)
        assert broken.paths() == []
        assert broken.add('/a/b.jpg')
        assert not broken.add('/a/b.jpg')
        assert broken.add('/a/é\udcff.jpg')  # a name that is no UTF-8
        assert broken.paths() == ['/a/b.jpg', '/a/é\udcff.jpg']

    def test_long_paths_keep_their_end(self):
        broken = BrokenFiles(1)
        long = 'x' * 5000 + '/file.png'
        assert broken.add(long) and not broken.add(long)
        assert broken.paths()[0].endswith('xx/file.png')

    def test_many(self):
        broken = BrokenFiles(200)
        names = [f'/data/{number}.png' for number in range(200)]
        assert all(broken.add(name) for name in names)
        assert not any(broken.add(name) for name in names)
        assert broken.paths() == sorted(names)

    def test_full(self):
        broken = BrokenFiles(0)
        for number in range(len(broken.rows) + 3):
            assert broken.add(str(number))

    def test_shared(self):
        assert BrokenFiles(1).rows.is_shared()
        assert isinstance(BrokenFiles(1).rows, torch.Tensor)
