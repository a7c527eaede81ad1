"""Stage 1 of EfficientViT-SAM's training (arXiv 2402.05008, section 3.2): a student's image encoder learns to give the
teacher's image embeddings (L2 loss). The student takes over the teacher's prompt encoder and mask decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from pipelines.errors import DataError, UsageError
from pipelines.images.sources import IMAGE_EXTENSIONS
from pipelines.sam import SamConfig, build_sam
from pipelines.sam.frame import PADDED, Fit, preprocess
from pipelines.sam.model import Sam
from pipelines.sam.predictor import SamPredictor
from pipelines.training import engine
from pipelines.training.config import DataConfig, DistillConfig
from pipelines.training.data import Keys, batches
from pipelines.training.embeddings import cache_embeddings
from pipelines.training.finetune import starting_model
from pipelines.training.regions import Photo
from pipelines.training.sources import find_source


def run(
    config: DistillConfig,
    folder: Path,
    *,
    resume: bool = False,
    cache: Path | None = None,
    student: Sam | None = None,
    teacher: SamPredictor | None = None,
) -> None:
    """Distil, or with `resume` go on with the run in `folder` (see `engine.fit`).

    cache: folder of the teacher's embeddings, 2 MB a photo; default: `embeddings/` in `folder`. student, teacher: used
    instead of the named ones. Raises UsageError for settings, and DataError for data, that cannot be used.
    """
    engine.check_run(config.loop, folder, resume=resume)
    folders = [photo_paths(data) for data in config.data]
    photos = [path for paths in folders for path in paths]
    if not photos:
        raise DataError("no photos to distil on: give --data PATH, or [[data]] in the recipe")
    device = "cuda" if config.loop.device in ("auto", "cuda", "gpu") and torch.cuda.is_available() else "cpu"
    if teacher is None:
        teacher_weights = Path(config.teacher_weights) if config.teacher_weights else None
        SamConfig(config.teacher, teacher_weights, device).check()
    student = student or starting_model(config.model, config.weights)
    teacher = teacher or build_sam(config.teacher, config.teacher_weights, device=device)
    if student.conventions.fit.squeezes != teacher.fit.squeezes:
        raise UsageError(f"{config.teacher} cannot teach {config.model}: one of them sees images squeezed to a square")
    _take_decoder(student, teacher)

    def embed(index: int) -> NDArray[np.float32]:
        encoded = teacher.encode([teacher.prepare(Photo(photos[index], ()).pixels())])
        embedding: NDArray[np.float32] = encoded.embeddings[0].float().cpu().numpy()
        return embedding

    name = f"{config.teacher} {config.teacher_weights or ''}".strip()
    file = cache_embeddings(name, embed, photos, cache or folder / "embeddings")
    weights = [data.weight for data in config.data]
    samples = PhotoEmbeddings(folders, weights, file, student.input_size, config.seed, student.conventions.fit)

    def stream(steps: range, rank: int, ranks: int) -> Iterator[DistillBatch]:
        keys = Keys(steps, config.photos, config.loop.photos_at_once, rank, ranks)
        return batches(samples, keys, config.loop, collate)

    student.prompt_encoder.requires_grad_(False)
    student.mask_decoder.requires_grad_(False)
    job = engine.TrainingJob(
        name=config.model,
        config=config,
        model=student,
        learner=Learner(student),
        phases=(engine.Phase(range(config.steps), config.photos, stream),),
        optimiser=config.optimiser,
        loop=config.loop,
    )
    engine.fit(job, folder, resume=resume)


class DistillBatch(NamedTuple):
    """pixels: B x 3 x S x S, normalised and padded; embeddings: B x 256 x 64 x 64 float32."""

    pixels: Tensor
    embeddings: Tensor


class Learner(nn.Module):
    """Batch -> losses."""

    def __init__(self, model: Sam) -> None:
        super().__init__()
        self.model = model
        self.model.image_encoder.to(memory_format=torch.channels_last)

    def forward(self, batch: DistillBatch) -> dict[str, Tensor]:
        return {"loss": F.mse_loss(self.model.image_encoder(batch.pixels).float(), batch.embeddings)}


@dataclass(frozen=True)
class PhotoEmbeddings(Dataset[DistillBatch]):
    """Photos and their embeddings by (step, index), drawn at random from the seed; each is a batch of one.

    photos: of each data set; weights: how often a data set is drawn from; embeddings: the file of `cache_embeddings`,
    in the order of all photos, mapped anew for each sample so that workers are not sent its content. size, fit: of the
    student's input.
    """

    photos: Sequence[Sequence[Path]]
    weights: Sequence[float]
    embeddings: Path
    size: int
    seed: int
    fit: Fit = PADDED

    def __getitem__(self, key: tuple[int, int]) -> DistillBatch:
        number, i = self.draw(key)
        start = sum(map(len, self.photos[:number]))
        embedding = np.load(self.embeddings, mmap_mode="r")[start + i].astype(np.float32)
        pixels = preprocess(Photo(self.photos[number][i], ()).pixels(), self.size, self.fit)
        return DistillBatch(pixels, torch.from_numpy(embedding)[None])

    def draw(self, key: tuple[int, int]) -> tuple[int, int]:
        """The number of a data set, and of a photo in it."""
        rng = np.random.default_rng([self.seed, *key])
        chances = np.array(self.weights) / np.sum(self.weights)
        number = int(rng.choice(len(self.photos), p=chances))
        return number, int(rng.integers(len(self.photos[number])))


def collate(samples: Sequence[DistillBatch]) -> DistillBatch:
    """Batches -> one batch."""
    return DistillBatch(torch.cat([s.pixels for s in samples]), torch.cat([s.embeddings for s in samples]))


def photo_paths(data: DataConfig) -> list[Path]:
    """The photos of a data set (see `sources.open_source`), or those of a plain folder, also in sub-folders."""
    path = Path(data.path)
    source = find_source(path, Path(data.images) if data.images else None)
    if source is not None:
        photos = [source[i].path for i in range(len(source))]
    else:
        photos = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_EXTENSIONS)
    if not photos:
        raise DataError(f"{path} holds no photos")
    return photos


def _take_decoder(student: Sam, teacher: SamPredictor) -> None:
    """Give the student its teacher's prompt encoder and mask decoder."""
    try:
        if type(student.mask_decoder) is not type(teacher.model.mask_decoder):
            raise AttributeError
        for part in ("prompt_encoder", "mask_decoder"):
            getattr(student, part).load_state_dict(getattr(teacher.model, part).state_dict())
    except (AttributeError, RuntimeError) as error:
        raise UsageError(f"{teacher.name} cannot teach: its decoder is of another kind than the student's") from error
