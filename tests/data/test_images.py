"""Images of every kind and size become the pixels that a model takes."""

import numpy as np
import pytest

import keras_vit

Image = pytest.importorskip("PIL.Image")


def test_a_size_alone_is_what_a_folder_gives(tmp_path, photograph):
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "a.png"
    Image.fromarray(photograph(40, 60)).save(file)
    (images, _) = keras_vit.ImageFolder(tmp_path, (24, 16))[0]
    np.testing.assert_array_equal(
        keras_vit.load_image(file, (24, 16)), images[0]
    )
    assert keras_vit.load_image(str(file), 8).shape == (8, 8, 3)


def test_a_folder_reads_as_a_model_does(tmp_path, tiny_vit, photograph):
    (tmp_path / "a").mkdir()
    file = tmp_path / "a" / "a.png"
    Image.fromarray(photograph(40, 60)).save(file)
    own = keras_vit.Preprocessing((0.5,), (0.5,), 0.8, "bicubic")
    model = tiny_vit(preprocessing=own)
    images, _ = keras_vit.ImageFolder(tmp_path, (8, 12), preprocessing=own)[0]
    np.testing.assert_array_equal(keras_vit.load_image(file, model), images[0])
    squashed = keras_vit.load_image(file, (8, 12))
    assert not np.array_equal(squashed, images[0])


WHITE, RED = (255, 255, 255), (255, 0, 0)


def _palette():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, *RED, *WHITE])
    return image


@pytest.mark.parametrize(
    "image, expected",
    [
        (Image.new("L", (4, 4), 7), (7, 7, 7)),
        (Image.new("RGBA", (4, 4), (*RED, 0)), WHITE),
        # 255 * (1 - 51 / 255) of white, and all of red's red
        (Image.new("RGBA", (4, 4), (*RED, 51)), (255, 204, 204)),
        (Image.new("LA", (4, 4), (9, 0)), WHITE),
        (Image.new("I;16", (4, 4), 200 * 256 + 255), (200, 200, 200)),
        (Image.new("CMYK", (4, 4), (0, 255, 255, 0)), RED),
        (Image.new("1", (4, 4), 1), WHITE),
        (_palette(), RED),
        (np.full((4, 4), 7, "uint8"), (7, 7, 7)),
        (np.full((4, 4, 4), (*RED, 0), "uint8"), WHITE),
        (np.full((4, 4, 1), 7.4), (7, 7, 7)),
        (np.full((4, 4, 3), 200 * 256 + 255, "uint16"), (200, 200, 200)),
        (np.ones((4, 4), bool), WHITE),
    ],
)
def test_every_kind_of_image_becomes_rgb(image, expected):
    pixels = keras_vit.load_image(image, 2)
    assert pixels.dtype == "uint8" and pixels.shape == (2, 2, 3)
    assert (pixels == expected).all()


def test_a_transparent_colour_of_a_palette_is_laid_on_white(tmp_path):
    _palette().save(tmp_path / "a.png", transparency=1)
    assert (keras_vit.load_image(tmp_path / "a.png", 2) == WHITE).all()


@pytest.mark.parametrize("mode", ["L", "I;16"])
def test_photos_stand_upright(mode, tmp_path):
    picture = Image.fromarray(np.array([[0, 250]], "uint8"))
    if mode == "I;16":
        picture = Image.fromarray(np.array([[0, 250 * 256]], "uint16"))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    picture.save(tmp_path / "a.png", exif=exif)
    pixels = keras_vit.load_image(tmp_path / "a.png", (2, 1))
    assert pixels[:, 0, 0].tolist() == [0, 250]


def test_channels_of_the_model(tiny_vit, photograph):
    pixels = photograph(24, 36)
    grey = tiny_vit(num_channels=1, preprocessing="inception")
    grey_pixels = keras_vit.load_image(pixels, grey)
    assert grey_pixels.shape == (8, 12, 1)
    first = tiny_vit(data_format="channels_first")
    np.testing.assert_array_equal(
        keras_vit.load_image(pixels, first).transpose(1, 2, 0),
        keras_vit.load_image(pixels, tiny_vit()),
    )
    five = tiny_vit(num_channels=5)
    bands = np.concatenate([pixels, pixels[..., :2]], -1)
    five_pixels = keras_vit.load_image(bands, five)
    rgb = keras_vit.load_image(pixels, tiny_vit())
    np.testing.assert_array_equal(five_pixels[..., :3], rgb)
    np.testing.assert_array_equal(five_pixels[..., 3:], rgb[..., :2])
    with pytest.raises(ValueError, match="an array of shape .*, 5"):
        keras_vit.load_image(Image.fromarray(pixels), five)
    with pytest.raises(ValueError, match="5 channels. Received"):
        keras_vit.load_image(pixels, five)


def test_a_model_for_any_size_goes_by_its_advice(tiny_vit, photograph):
    model = tiny_vit(image_size=None)
    with pytest.raises(ValueError, match="any size"):
        keras_vit.load_image(photograph(9, 9), model)
    own = keras_vit.Preprocessing((0.5,), (0.5,), image_size=(16, 8))
    model = tiny_vit(image_size=None, preprocessing=own)
    assert keras_vit.load_image(photograph(9, 9), model).shape == (16, 8, 3)


@pytest.mark.parametrize(
    "source, said",
    [
        (np.full((4, 4, 3), 300.0), "from 300.0 to 300.0"),
        (np.full((4, 4, 3), np.nan), "in .0, 255."),
        (np.full((4, 4, 3), 0.7), "multiply them by 255"),
        (np.zeros((2, 4, 4, 3), "uint8"), "shape=.2, 4, 4, 3."),
        (Image.new("F", (4, 4)), "floats"),
        ("nowhere.png", "'nowhere.png' cannot be decoded"),
    ],
)
def test_what_is_no_image_is_refused(source, said):
    with pytest.raises(ValueError, match=said):
        keras_vit.load_image(source, 4)


def test_a_batch_is_a_list(tmp_path):
    with pytest.raises(ValueError, match="`load_image` reads one"):
        keras_vit.load_images("picture.png", 4)
    with pytest.raises(ValueError, match="at least one"):
        keras_vit.load_images([], 4)
