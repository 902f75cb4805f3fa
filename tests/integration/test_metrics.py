"""The measures of CoMM by the libraries themselves: Java's METEOR and tokenizer, scikit-image, torchmetrics."""

import math

import pytest
from support.evaluations import write_picture

from interleaver.evals import metrics

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]


def test_texts_compared_with_the_originals():
    original = ["Fold the paper in half.", "Glue the two edges together and press."]
    same, notes = metrics.measure_texts([(original, original)])
    assert notes == [] and same["BLEU-4 (whole)"].value == pytest.approx(1, abs=1e-4)
    assert same["METEOR (steps)"].value == pytest.approx(1, abs=0.01) and same["METEOR (steps)"].items == 2
    # surplus steps are passed over
    other, _ = metrics.measure_texts([(["Fold a sheet of paper in half.", "Paint it blue.", "Done."], original)])
    assert other["METEOR (steps)"].items == 2
    for name in ("METEOR (steps)", "BLEU-4 (whole)", "CIDEr (steps)"):
        assert 0 <= other[name].value < same[name].value


def test_pictures_compared_with_the_originals(tmp_path):
    red, dark = write_picture(tmp_path / "red.png"), write_picture(tmp_path / "dark.png", (20, 3, 3))
    near, _ = metrics.measure_pictures([([red], [write_picture(tmp_path / "near.png", (201, 30, 30))])])
    far, notes = metrics.measure_pictures([([dark], [red])])
    assert near["SSIM"].value > far["SSIM"].value and near["PSNR"].value > far["PSNR"].value
    # PSNR of pictures that differ by (180, 27, 27) everywhere
    assert far["PSNR"].value == pytest.approx(10 * math.log10(255**2 / ((180**2 + 2 * 27**2) / 3)), rel=1e-4)
    # torchvision and the weights of LPIPS and Inception are not part of the package, and their absence is told
    assert all(note.split(":")[0] in ("LPIPS", "FID and the Inception score") for note in notes)
    assert metrics.measure_pictures([([red], [red])])[0]["PSNR"].value is None  # infinite
    crossed, _ = metrics.measure_pictures([([red, dark], [red])])
    assert crossed["SSIM"].value == pytest.approx((1 + far["SSIM"].value) / 2, abs=1e-3)


def test_frechet_distance_with_another_network(tmp_path):
    import torch

    class Means(torch.nn.Module):
        """The mean of each colour, of which FID can be worked out by hand."""

        num_features = 3

        def forward(self, pictures):
            return pictures.float().mean(dim=(2, 3)).double()

    def some(name, level):
        return [write_picture(tmp_path / f"{name}{n}.png", (level + n, level - n, level)) for n in (-5, 5)]

    same = metrics.inception_scores([(some("a", 100), some("b", 100))], Means())
    moved = metrics.inception_scores([(some("c", 151), some("d", 100))], Means())
    assert same["FID"].value == pytest.approx(0, abs=1e-3)
    assert moved["FID"].value == pytest.approx(3 * (51 / 255) ** 2, rel=1e-2)  # equal spread, so the means' distance
    assert moved["IS"].value >= 1
