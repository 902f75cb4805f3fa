"""Metrics that compare texts and pictures with the originals, using the same libraries as CoMM's own scripts.

Install the libraries with `pip install "interleaver[evals]"`. METEOR, BLEU and CIDEr also need Java; LPIPS, FID and
the Inception score need torchvision, torch-fidelity and their weights. Metrics that cannot be computed are reported
with the reason.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from interleaver.evals.scores import Score
from interleaver.extras import require_extra

COMPARISON_SIDE = 256
"""Side in pixels of the square that pictures are resized to before they are compared in pairs."""
INCEPTION_SIDE = 299
"""Side in pixels of the square that pictures are resized to for the Inception network."""
MeasuredScores = tuple[dict[str, Score], list[str]]
"""Scores by metric name, and messages that say why other metrics are missing."""


def measure_texts(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> MeasuredScores:
    """Compute METEOR, BLEU-4 and CIDEr of texts, per step and per document.

    Args:
        pairs: for each document, the generated and the original texts, one text per step; if one has more steps, its
            surplus steps are ignored.
    """
    documents = [list(zip(text, original, strict=False)) for text, original in pairs]
    steps = [pair for document in documents for pair in document]
    if not steps:
        return {}, ["METEOR, BLEU and CIDEr: not computed (no text was written)"]
    whole_texts = [
        (" ".join(text for text, _ in document), " ".join(original_text for _, original_text in document))
        for document in documents
        if document
    ]
    scores, problem = _try_measure(
        "METEOR, BLEU and CIDEr", lambda: _caption_scores({"steps": steps, "whole": whole_texts})
    )
    return scores, [problem] if problem else []


def _caption_scores(levels: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Score]:
    if not shutil.which("java"):
        raise RuntimeError("Java is not installed")
    tokenizer = require_extra("pycocoevalcap.tokenizer.ptbtokenizer", "evals").PTBTokenizer()
    bleu = require_extra("pycocoevalcap.bleu.bleu", "evals").Bleu(4)
    cider = require_extra("pycocoevalcap.cider.cider", "evals").Cider()
    meteor = require_extra("pycocoevalcap.meteor.meteor", "evals").Meteor()  # a Java process that takes long to start
    scores: dict[str, Score] = {}
    try:
        for level, pairs in levels.items():
            candidates, references = (
                tokenizer.tokenize({number: [{"caption": pair[side]}] for number, pair in enumerate(pairs)})
                for side in (0, 1)
            )
            values = {
                "METEOR": meteor.compute_score(references, candidates)[0],
                "BLEU-4": bleu.compute_score(references, candidates, verbose=0)[0][3],
                "CIDEr": cider.compute_score(references, candidates)[0],
            }
            scores |= {f"{name} ({level})": Score(float(value), items=len(pairs)) for name, value in values.items()}
    finally:
        for stream in (meteor.meteor_p.stdin, meteor.meteor_p.stdout, meteor.meteor_p.stderr):
            stream.close()
        meteor.meteor_p.kill()
        meteor.meteor_p.wait()
    return scores


def measure_pictures(pairs: Sequence[tuple[Sequence[Path], Sequence[Path]]]) -> MeasuredScores:
    """Compute SSIM, PSNR and LPIPS of picture pairs, and FID and the Inception score of the whole set.

    As in the official script, every generated picture of an item is compared with every original picture of the item,
    and the means per item are averaged.

    Args:
        pairs: for each item, the generated and the original pictures.
    """
    comparable = [(pictures, original) for pictures, original in pairs if pictures and original]
    scores_by_metric: dict[str, Score] = {}
    notes: list[str] = []
    for name, measure in (
        ("SSIM and PSNR", _pixel_scores),
        ("LPIPS", _lpips_score),
        ("FID and the Inception score", inception_scores),
    ):
        scores, problem = _try_measure(name, lambda measure=measure: measure(comparable))  # type: ignore[misc]
        scores_by_metric |= scores
        notes += [problem] if problem else []
    return scores_by_metric, notes


def _try_measure(name: str, measure: Callable[[], dict[str, Score]]) -> tuple[dict[str, Score], str | None]:
    """Return the scores of a metric, or why it could not be computed: a library, its weights or Java may be missing."""
    try:
        return measure(), None
    except Exception as error:  # the libraries raise all kinds of exceptions when weights cannot be downloaded
        return {}, f"{name}: not computed ({str(error).splitlines()[0] if str(error) else type(error).__name__})"


PicturePairs = Sequence[tuple[Sequence[Path], Sequence[Path]]]


def _pixel_scores(pairs: PicturePairs) -> dict[str, Score]:
    compare = require_extra("skimage.metrics", "evals")
    scores_by_name: dict[str, list[float]] = {"SSIM": [], "PSNR": []}
    for pictures, original in pairs:
        array_pairs = [
            (_array(reference, COMPARISON_SIDE), _array(other, COMPARISON_SIDE))
            for reference in original
            for other in pictures
        ]
        ssim = [
            compare.structural_similarity(reference, other, data_range=255, channel_axis=2)
            for reference, other in array_pairs
        ]
        psnr = [compare.peak_signal_noise_ratio(reference, other, data_range=255) for reference, other in array_pairs]
        scores_by_name["SSIM"].append(sum(ssim) / len(ssim))
        scores_by_name["PSNR"].append(sum(psnr) / len(psnr))
    return {name: _mean(values) for name, values in scores_by_name.items()}


def _lpips_score(pairs: PicturePairs) -> dict[str, Score]:
    torch = require_extra("torch", "evals")
    metric = require_extra("torchmetrics.image.lpip", "evals").LearnedPerceptualImagePatchSimilarity(net_type="squeeze")
    distances = []
    for pictures, original in pairs:
        tensor_pairs = [
            (_tensor(torch, reference, COMPARISON_SIDE), _tensor(torch, other, COMPARISON_SIDE))
            for reference in original
            for other in pictures
        ]
        with torch.no_grad():
            values = [float(metric(2 * reference - 1, 2 * other - 1)) for reference, other in tensor_pairs]
        distances.append(sum(values) / len(values))
    return {"LPIPS": _mean(distances)}


def inception_scores(pairs: PicturePairs, network: Any = None) -> dict[str, Score]:
    """Compute the FID between generated and original pictures, and the Inception score of the generated pictures.

    Args:
        pairs: for each item, the generated and the original pictures.
        network: feature extractor for both scores; None uses Inception.
    """
    torch = require_extra("torch", "evals")
    network_options = {} if network is None else {"feature": network}
    fid = require_extra("torchmetrics.image.fid", "evals").FrechetInceptionDistance(normalize=True, **network_options)
    score = require_extra("torchmetrics.image.inception", "evals").InceptionScore(normalize=True, **network_options)
    for pictures, original in pairs:
        for path in original:
            fid.update(_tensor(torch, path, INCEPTION_SIDE), real=True)
        for path in pictures:
            picture = _tensor(torch, path, INCEPTION_SIDE)
            fid.update(picture, real=False)
            score.update(picture)
    count = sum(len(pictures) for pictures, _ in pairs)
    return {"FID": Score(float(fid.compute()), items=count), "IS": Score(float(score.compute()[0]), items=count)}


def _mean(values: Sequence[float]) -> Score:
    finite = [value for value in values if math.isfinite(value)]  # the PSNR of equal pictures is infinite
    return Score(sum(finite) / len(finite) if finite else None, items=len(finite))


def _array(path: Path, side: int) -> Any:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((side, side)))


def _tensor(torch: Any, path: Path, side: int) -> Any:
    """Return a picture as a tensor of shape (1, 3, side, side) with values from 0 to 1."""
    return torch.from_numpy(_array(path, side).copy()).permute(2, 0, 1)[None].float() / 255
