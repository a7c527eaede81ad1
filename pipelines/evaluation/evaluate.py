"""`evsam evaluate coco` and `lvis`: predictions of models or from files, scored, tabled and shown.

truth -> cells (prompts x SAMs) or results files -> scores -> OUT/<cell>/scores.json, OUT/matrix.*, OUT/report.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from pipelines.errors import DataError, UsageError
from pipelines.evaluation.annotations import GroundTruth, read_ground_truth
from pipelines.evaluation.config import EvaluationConfig, RawBoxFilePrompts
from pipelines.evaluation.details import details_of, save_details
from pipelines.evaluation.detection import Evaluator
from pipelines.evaluation.loop import Model
from pipelines.evaluation.matrix import write_matrix
from pipelines.evaluation.photos import Photos, find_photos
from pipelines.evaluation.plain_mistakes import plain_mistakes
from pipelines.evaluation.predictions import Predictions, from_records, read_results
from pipelines.evaluation.prompts import (
    build_evaluation_prompter,
    check_classes,
    check_prompting,
    is_here,
    known_settings,
    names_of,
)
from pipelines.evaluation.protocols import Protocol, find_protocol
from pipelines.evaluation.report import write_report
from pipelines.evaluation.runner import Cell, cell_folder, check_distinct, run_cells
from pipelines.evaluation.score import CellScore, Scored, score_detections, score_prompted
from pipelines.evaluation.stamp import made_by_file, sha256_of, stamp
from pipelines.files import check_folder, make_folder, read_json, reading, write_json, writing
from pipelines.notes import notes_of_images
from pipelines.outputs import OUTPUTS, Destination
from pipelines.outputs.folder import scratch_folder
from pipelines.records import Record
from pipelines.run import Silent, Watcher
from pipelines.sam import SamConfig

SCORES, DETAILS = "scores.json", "details.npz"
"""A cell's files, beside its `coco_results.json`."""


@dataclass(frozen=True)
class Evaluation:
    """All cells of a run, scored. failed: image name -> reason, of images that no mask could be made for; notes: see
    `pipelines.notes`."""

    truth: GroundTruth
    cells: Sequence[CellScore]
    failed: Mapping[str, str]
    notes: Sequence[str]


def evaluate(
    config: EvaluationConfig,
    watch: Watcher | None = None,
    *,
    models: Sequence[Model] | None = None,
    truth: GroundTruth | None = None,
) -> Evaluation:
    """Run what has to be run, score it, and write everything below `config.output`.

    models: what `build_models` gave, when several data sets share them; truth: what config.annotations holds, when that
    is no annotation file. Raises EvsamError for faults of settings, weights, annotations or disk. Images that fail
    count as without masks.
    """
    protocol = find_protocol(config.protocol)
    check_models(config)
    truth = truth or read_ground_truth(config.annotations, limit=config.limit)
    if config.data_set == "lvis" and not truth.is_lvis:
        raise DataError(f"{config.annotations} is not of LVIS: its images have no neg_category_ids; use evaluate coco")
    check_truth(config, truth)
    photos = find_photos(truth, config.images) if config.images else None
    read = [read_results(path, truth, agnostic=config.class_agnostic) for path in config.results]
    make_folder(config.output)
    with ExitStack() as held:
        cells = _run(config, truth, photos, models, watch or Silent(), held)
        evaluator = Evaluator(truth)
        scores = [*_score_cells(config, truth, evaluator, cells), *_score_files(config, truth, evaluator, read)]
        check_distinct([score.name for score in scores])
        with writing(config.output):
            for score in scores:
                _write(config.output / score.name, truth, score, protocol)
            write_matrix(config.output, scores)
            if config.report:
                write_report(config.output / "report.html", truth, scores, photos)
    failed = {name: reason for score in scores for name, reason in score.stamp["failed_images"].items()}
    notes = [*(photos.notes if photos else ()), *(note for score in scores for note in score.notes)]
    return Evaluation(truth, scores, failed, list(dict.fromkeys(notes)))


def check_models(config: EvaluationConfig) -> None:
    """Raise what is wrong with prompts, SAMs and cells' folders, and can be told before weights are fetched."""
    if not config.prompts and not config.results:
        raise UsageError("nothing to score: say how to prompt, or name a results file")
    if config.prompts and config.images is None:
        raise UsageError("to prompt models, the folder of the images is needed: --images FOLDER")
    check_folder(config.output)
    for prompting in config.prompts:
        check_prompting(prompting, device=config.device)
        for sam in config.sams:
            sam.check()
            for name in names_of(prompting):
                cell_folder(config.folder, name, sam.name).earlier()


def check_truth(config: EvaluationConfig, truth: GroundTruth) -> None:
    """Raise what is known to be wrong with the prompts for this truth before weights are fetched."""
    for prompting in config.prompts:
        check_classes(prompting, truth, agnostic=config.class_agnostic)


def build_models(config: EvaluationConfig) -> list[Model]:
    """The SAMs of `config`, none when it has nothing to prompt."""
    sams = config.sams if config.prompts else ()
    return [Model(sam.build(offline=config.offline), _identity(sam, config.offline)) for sam in sams]


def _identity(sam: SamConfig, offline: bool | None) -> dict[str, Any]:
    """What decides a SAM's masks, for the stamp. Its weights are fetched if need be."""
    return {
        "name": sam.name,
        "sha256": sam.sha256(offline=offline),
        "precision": sam.precision,
        "backend": sam.backend,
        "masks": asdict(sam.rules),
    }


def _check_resumed(config: EvaluationConfig, settings: Mapping[str, Any]) -> None:
    """Raise UsageError for cells to go on with that had other settings, as far as is known before models are loaded."""
    for prompting, sam in product(config.prompts, config.sams):
        for name in names_of(prompting):
            folder = cell_folder(config.folder, name, sam.name)
            if (earlier := folder.earlier()) is not None:
                then = earlier.get("prompt")
                prompt = {**(then if isinstance(then, dict) else {}), **known_settings(prompting)}
                folder.earlier({**settings, "prompt": prompt, "sam": _identity(sam, config.offline)})


def _run(
    config: EvaluationConfig,
    truth: GroundTruth,
    photos: Photos | None,
    models: Sequence[Model] | None,
    watch: Watcher,
    held: ExitStack,
) -> list[Cell]:
    if photos is None or not config.prompts:
        return []
    if photos.missing:
        raise DataError(
            f"{len(photos.missing)} of the {len(truth.images)} images of {truth.path.name} are not in {config.images}, "
            f"such as {photos.missing[0]}: is it the right folder?"
        )
    settings = {
        "annotations_sha256": sha256_of(config.annotations),
        "limit": config.limit,
        "device": config.device.split(":")[0],
    }
    if models is None:
        _check_resumed(config, settings)
    cheap_first = sorted(config.prompts, key=lambda each: (not isinstance(each, RawBoxFilePrompts), not is_here(each)))
    prompters = {
        prompting: build_evaluation_prompter(
            prompting, truth, agnostic=config.class_agnostic, device=config.device, offline=config.offline
        )
        for prompting in cheap_first
    }
    return run_cells(
        truth,
        photos,
        config.folder,
        [prompters[prompting] for prompting in config.prompts],
        build_models(config) if models is None else models,
        settings,
        watch,
        held,
    )


def _score_cells(
    config: EvaluationConfig, truth: GroundTruth, evaluator: Evaluator, cells: Sequence[Cell]
) -> Iterator[CellScore]:
    protocol = find_protocol(config.protocol)
    for cell in cells:
        records = list(cell.records(truth))
        failed = {record.name: record.reason or "" for record in records if record.status == "failed"}
        if cell.of_truth:
            scored = score_prompted(truth, records, protocol)
        else:
            predictions = from_records(records)
            scored = _score_detections(config, truth, evaluator, predictions, cell.agnostic, cell.name)
        _write_results(cell.folder, truth, records)
        yield CellScore(
            cell.name,
            cell.prompt,
            cell.sam,
            scored,
            _stamp(config, truth, cell.settings, cell.agnostic, failed, config.device),
            cell.speed or _earlier_speed(cell.folder),
            [*truth.notes, *notes_of_images(records), *cell.notes, *scored.notes],
        )


def _score_files(
    config: EvaluationConfig, truth: GroundTruth, evaluator: Evaluator, read: Sequence[Predictions]
) -> Iterator[CellScore]:
    """read: what each of config.results holds."""
    for path, predictions in zip(config.results, read, strict=True):
        scored = _score_detections(config, truth, evaluator, predictions, config.class_agnostic, path.name)
        made_by = _stamp(config, truth, made_by_file(path), config.class_agnostic, {}, None)
        yield CellScore(results_name(path), results_name(path), "", scored, made_by, {}, [*truth.notes, *scored.notes])


def _write_results(folder: Path, truth: GroundTruth, records: Sequence[Record]) -> None:
    categories = {category.id: category for category in truth.categories}
    destination = Destination(folder, scratch_folder(folder), categories)
    with writing(folder):
        OUTPUTS["coco"].load()(destination).finish(lambda: records)


def results_name(path: Path) -> str:
    """What a results file is called in tables: its stem, or its folder when it has the name that every run gives it."""
    return path.absolute().parent.name if path.stem == "coco_results" else path.stem


def _score_detections(
    config: EvaluationConfig,
    truth: GroundTruth,
    evaluator: Evaluator,
    predictions: Predictions,
    agnostic: bool,
    of: str,
) -> Scored:
    """of: whose predictions they are, for notes."""
    lvis = config.data_set == "lvis"
    scored = score_detections(truth, predictions, evaluator, lvis=lvis, agnostic=agnostic, boundary=config.boundary)
    return replace(scored, notes=[*scored.notes, *plain_mistakes(of, truth, predictions, agnostic=agnostic)])


def _stamp(
    config: EvaluationConfig,
    truth: GroundTruth,
    made_by: Mapping[str, Any],
    agnostic: bool,
    failed: Mapping[str, str],
    device: str | None,
) -> dict[str, Any]:
    return stamp(
        truth,
        config.data_set,
        find_protocol(config.protocol),
        made_by,
        agnostic=agnostic,
        limit=config.limit,
        failed=failed,
        device=device,
    )


def _earlier_speed(folder: Path) -> dict[str, float]:
    """The speed in a score of an earlier run: one that had nothing left to do has none of its own."""
    try:
        with reading(folder / SCORES, "a score of `evsam evaluate`"):
            speed = read_json(folder / SCORES, "a score of `evsam evaluate`")["speed"]
            return {str(stage): float(rate) for stage, rate in speed.items()}
    except DataError:
        return {}


def _write(folder: Path, truth: GroundTruth, score: CellScore, protocol: Protocol) -> None:
    names = truth.category_names()
    document = {
        "name": score.name,
        "prompt": score.prompt,
        "sam": score.sam,
        "metrics": score.scored.metrics,
        "classes": {names[id]: value for id, value in score.scored.classes.items()},
        "mistakes": [asdict(mistake) for mistake in score.scored.mistakes],
        "speed": score.speed,
        "notes": list(score.notes),
        "stamp": score.stamp,
    }
    write_json(folder / SCORES, document)
    save_details(folder / DETAILS, details_of(truth, score.scored, protocol))
