"""Measures that compare texts and pictures with originals, by the libraries that CoMM's own scripts use.

`pip install "interleaver[evals]"` brings them; METEOR, BLEU and CIDEr also need Java, and LPIPS, FID and the Inception
score torchvision, torch-fidelity and their weights. What cannot be computed is said, not left out in silence.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from interleaver.evals.scores import Score
from interleaver.extras import need

SIDE = 256
"""Pixels that pictures are brought to before they are compared one by one."""
INCEPTION = 299
"""Pixels that they are brought to for the Inception network."""
Measured = tuple[dict[str, Score], list[str]]
"""Scores by name, and why others are missing."""


def texts(pairs: Sequence[tuple[Sequence[str], Sequence[str]]]) -> Measured:
    """METEOR, BLEU-4 and CIDEr of texts, step by step and as a whole.

    Args:
        pairs: the texts that were written and the original ones, by step; surplus steps of either are passed over.
    """
    kept = [list(zip(made, original, strict=False)) for made, original in pairs]
    steps = [pair for document in kept for pair in document]
    if not steps:
        return {}, ["METEOR, BLEU and CIDEr: not computed (no text was written)"]
    whole = [
        (" ".join(made for made, _ in document), " ".join(said for _, said in document))
        for document in kept
        if document
    ]
    scores, problem = _tried("METEOR, BLEU and CIDEr", lambda: _captions({"steps": steps, "whole": whole}))
    return scores, [problem] if problem else []


def _captions(levels: Mapping[str, Sequence[tuple[str, str]]]) -> dict[str, Score]:
    if not shutil.which("java"):
        raise RuntimeError("Java is not installed")
    tokenizer = need("pycocoevalcap.tokenizer.ptbtokenizer", "evals").PTBTokenizer()
    bleu = need("pycocoevalcap.bleu.bleu", "evals").Bleu(4)
    cider = need("pycocoevalcap.cider.cider", "evals").Cider()
    meteor = need("pycocoevalcap.meteor.meteor", "evals").Meteor()  # a Java process that takes long to start
    found: dict[str, Score] = {}
    try:
        for level, pairs in levels.items():
            made, original = (
                tokenizer.tokenize({number: [{"caption": pair[side]}] for number, pair in enumerate(pairs)})
                for side in (0, 1)
            )
            values = {
                "METEOR": meteor.compute_score(original, made)[0],
                "BLEU-4": bleu.compute_score(original, made, verbose=0)[0][3],
                "CIDEr": cider.compute_score(original, made)[0],
            }
            found |= {f"{name} ({level})": Score(float(value), items=len(pairs)) for name, value in values.items()}
    finally:
        for stream in (meteor.meteor_p.stdin, meteor.meteor_p.stdout, meteor.meteor_p.stderr):
            stream.close()
        meteor.meteor_p.kill()
        meteor.meteor_p.wait()
    return found


def pictures(pairs: Sequence[tuple[Sequence[Path], Sequence[Path]]]) -> Measured:
    """SSIM, PSNR and LPIPS of pictures, and FID and the Inception score of all together.

    As in the official script, every picture of an item is compared with every original one of it, and the items' means
    are averaged.

    Args:
        pairs: the pictures that were drawn and the original ones, by item.
    """
    known = [(made, original) for made, original in pairs if made and original]
    found: dict[str, Score] = {}
    notes: list[str] = []
    for name, measure in (
        ("SSIM and PSNR", _pixels),
        ("LPIPS", _lpips),
        ("FID and the Inception score", inception),
    ):
        scores, problem = _tried(name, lambda measure=measure: measure(known))  # type: ignore[misc]
        found |= scores
        notes += [problem] if problem else []
    return found, notes


def _tried(name: str, measure: Callable[[], dict[str, Score]]) -> tuple[dict[str, Score], str | None]:
    """A measure, or why it could not be computed: a library, its weights or Java may be missing."""
    try:
        return measure(), None
    except Exception as error:  # libraries raise what they like when weights cannot be had
        return {}, f"{name}: not computed ({str(error).splitlines()[0] if str(error) else type(error).__name__})"


Pairs = Sequence[tuple[Sequence[Path], Sequence[Path]]]


def _pixels(pairs: Pairs) -> dict[str, Score]:
    compare = need("skimage.metrics", "evals")
    found: dict[str, list[float]] = {"SSIM": [], "PSNR": []}
    for made, original in pairs:
        both = [(_array(one, SIDE), _array(other, SIDE)) for one in original for other in made]
        ssim = [compare.structural_similarity(one, other, data_range=255, channel_axis=2) for one, other in both]
        psnr = [compare.peak_signal_noise_ratio(one, other, data_range=255) for one, other in both]
        found["SSIM"].append(sum(ssim) / len(ssim))
        found["PSNR"].append(sum(psnr) / len(psnr))
    return {name: _mean(values) for name, values in found.items()}


def _lpips(pairs: Pairs) -> dict[str, Score]:
    torch = need("torch", "evals")
    metric = need("torchmetrics.image.lpip", "evals").LearnedPerceptualImagePatchSimilarity(net_type="squeeze")
    found = []
    for made, original in pairs:
        both = [(_tensor(torch, one, SIDE), _tensor(torch, other, SIDE)) for one in original for other in made]
        with torch.no_grad():
            values = [float(metric(2 * one - 1, 2 * other - 1)) for one, other in both]
        found.append(sum(values) / len(values))
    return {"LPIPS": _mean(found)}


def inception(pairs: Pairs, network: Any = None) -> dict[str, Score]:
    """FID of what was drawn against the originals, and the Inception score of what was drawn.

    Args:
        pairs: see `pictures`.
        network: another network than Inception; its features are then what both are made of.
    """
    torch = need("torch", "evals")
    given = {} if network is None else {"feature": network}
    fid = need("torchmetrics.image.fid", "evals").FrechetInceptionDistance(normalize=True, **given)
    score = need("torchmetrics.image.inception", "evals").InceptionScore(normalize=True, **given)
    for made, original in pairs:
        for path in original:
            fid.update(_tensor(torch, path, INCEPTION), real=True)
        for path in made:
            picture = _tensor(torch, path, INCEPTION)
            fid.update(picture, real=False)
            score.update(picture)
    count = sum(len(made) for made, _ in pairs)
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
    """A picture as a batch of one, 1 x 3 x side x side, from 0 to 1."""
    return torch.from_numpy(_array(path, side).copy()).permute(2, 0, 1)[None].float() / 255
