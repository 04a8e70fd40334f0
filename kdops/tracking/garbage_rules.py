"""What may go of an experiment: the rules by which :mod:`kdops.tracking.garbage` lists and removes.

Whatever a finished run owns stays, and so does all that belongs to a study whose process may be alive, or that a
version needs which stays, whatever its name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Run

from kdops.registry.lookup import ABSENT, existing, with_parents
from kdops.registry.registered import RegisteredVersion
from kdops.store.artifacts import holds_model, is_below, local_folder, size_of
from kdops.sweeps import schema
from kdops.tracking.stale_runs import is_stale
from kdops.utils.process import ProcessId

ENDED = ("FAILED", "KILLED")
CUT_OFF = ("running", "failed")
"""States of a search's trial that was killed; one that was pruned or diverged is a result of the search."""

MADE = re.compile(r"(?:m-)?[0-9a-f]{32}")
"""A logged model or a run, as the source of a version names it."""

GONE = "its files are gone"
ELSEWHERE = "made on another host, which may have its files: kdops gc there"


@dataclass(frozen=True)
class Piece:
    """One thing that may go.

    Attributes:
        kind: ``version``, ``logged model``, ``run``, ``files`` or ``checkpoint``.
        name: which: ``name/version``, an id, or a path.
        why: why it may go, in a few words.
        size: bytes that are freed.
        kept: why it stays all the same; empty where it goes.
        run_id: the run that made it; empty for a checkpoint.
    """

    kind: str
    name: str
    why: str
    size: int = 0
    kept: str = ""
    run_id: str = ""


@dataclass(frozen=True)
class StoredModel:
    """What is judged of a logged model.

    Attributes:
        model_id: its id.
        name: its name.
        run_id: the run that made it; empty where it names none.
        location: where its files are.
    """

    model_id: str
    name: str
    run_id: str
    location: str

    @classmethod
    def of(cls, model: LoggedModel) -> StoredModel:
        """Return the plain value of MLflow's logged model."""
        return cls(model.model_id, model.name or "", model.source_run_id or "", model.artifact_location)


@dataclass
class Judge:
    """Judges what may go of an experiment, or of a run in it.

    Attributes:
        client: a client of the store.
        root: where the experiment's artifacts lie.
        runs: its runs of kdops that did not finish and those above them by id, or a run and those above it.
        models: their logged models by id, without those that are marked deleted.
        versions: all versions that may need one of them.
        places: folders on disk that may hold the files of a model that is marked deleted.
        failed: why the run of a model may go, by its id.
    """

    client: MlflowClient
    root: str
    runs: dict[str, Run]
    models: Mapping[str, StoredModel]
    versions: Sequence[RegisteredVersion]
    places: Sequence[Path]
    failed: dict[str, str] = field(init=False)

    def __post_init__(self):
        self.failed = {run_id: why for run_id, run in list(self.runs.items()) if (why := self._why_failed(run))}

    def pieces(self) -> list[Piece]:
        """Return what may go, in the order in which it is to be removed."""
        found = self._without_model()
        going = {piece.name for piece in found if not piece.kept}
        held = self._needed_by(version for version in self.versions if _name(version) not in going)
        runs = (self._run_piece(run_id, why, held) for run_id, why in self.failed.items())
        return [*found, *self._logged_models(held), *self._files(held), *runs]

    def _why_failed(self, run: Run) -> str:
        """Return why the run of a model may go; empty where it stays."""
        tags, status = run.data.tags, run.info.status
        if schema.ROLE not in tags or self._is_live(run, self.runs):
            return ""
        if status == "RUNNING":
            return f"cut off: {run.info.run_name}"
        is_result = schema.TRIAL in tags and not (status == "KILLED" and tags.get(schema.TRIAL_STATE) in CUT_OFF)
        return f"{status}: {run.info.run_name}" if status in ENDED and not is_result else ""

    def _is_live(self, run: Run | None, runs: dict[str, Run]) -> bool:
        """Return whether a run or one above it has the status RUNNING, unless its process is gone."""
        running = (one for one in with_parents(run, runs.get) if one.info.status == "RUNNING")
        return not all(is_stale(self.client, one, runs) for one in running)

    def _without_model(self) -> list[Piece]:
        """Return the versions that kdops made and that have no model: their run failed, or their files are gone."""
        judged = [(version, *self._judge_version(version)) for version in self.versions]
        held = self._needed_by(version for version, why, _ in judged if not why)
        found, aliases = [], {}
        for version, why, kept in judged:
            if not why:
                continue
            if version.name not in aliases:
                aliases[version.name] = self.client.get_registered_model(version.name).aliases.items()
            own = sorted(a for a, n in aliases[version.name] if str(n) == str(version.version) and a != schema.CHAMPION)
            if own:
                kept = f"it is {', '.join(own)}: kdops rollback first"
            kept = kept or next((held[one] for one in _needed(version) if one in held), "")
            found.append(Piece("version", _name(version), why, kept=kept, run_id=version.run_id))
        return found

    def _judge_version(self, version: RegisteredVersion) -> tuple[str, str]:
        """Return why a version has no model (empty if it has one, or is not kdops's), and why it stays all the same."""
        model_id = version.source.removeprefix("models:/")
        if not (version.name.startswith("kdops-") and "fingerprint" in version.tags and MADE.fullmatch(model_id)):
            return "", ""
        if version.run_id in self.failed:
            return "its run did not finish", ""
        # The pages of a search shift while others write, so that a model may have been missed.
        model = self.models.get(model_id) or self._model(model_id)
        if model is not None and holds_model(self.client, model.location):
            return "", ""
        runs = self.runs
        if version.run_id not in runs:
            runs = {**runs, **read_with_parents(self.client, version.run_id)}
        run = runs.get(version.run_id)
        # Of a run of another experiment, or one that was deleted by hand, nothing is known here.
        if run is None or not is_below(run.info.artifact_uri, self.root) or self._is_live(run, runs):
            return "", ""
        if model is None:
            return "its logged model was deleted", ""
        process = run.data.tags.get(schema.PROCESS, "")
        elsewhere = process and local_folder(model.location) and not ProcessId.own().shares_host(process)
        return GONE, ELSEWHERE if elsewhere else ""

    def _needed_by(self, versions: Iterable[RegisteredVersion]) -> dict[str, str]:
        """Return of each thing that the given versions need, which of them needs it."""
        held: dict[str, str] = {}
        for version in versions:
            for one in _needed(version):
                held[one] = f"{_name(version)} needs it"
                if one in self.models and (run_id := self.models[one].run_id):
                    held[run_id] = held[one]
        return held

    def _logged_models(self, held: Mapping[str, str]) -> Iterator[Piece]:
        """Yield the logged models that no finished run needs."""
        for model in self.models.values():
            run_id = model.run_id
            if run_id in self.runs and run_id not in self.failed:
                continue
            kept = held.get(model.model_id, "") or held.get(run_id, "")
            # A version needs no run: a model whose run was deleted by hand is no garbage as long as it is registered.
            if run_id not in self.runs and (kept or not run_id or _is_active(self._run(run_id))):
                continue
            why = f"{'its run did not finish' if run_id in self.runs else 'its run was deleted'}: {model.name}"
            yield self._piece("logged model", model.model_id, why, model.location, kept, run_id)

    def _files(self, held: Mapping[str, str]) -> Iterator[Piece]:
        """Yield the files on disk of models of failed runs that were marked deleted before.

        Files without a description may belong to anything, and stay.
        """
        for place in self.places:
            model_id = place.parent.name
            if model_id in self.models:
                continue
            try:
                described = yaml.safe_load((place / "MLmodel").read_text(encoding="utf-8"))
                run_id = str(described["run_id"])
            except (OSError, yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
                continue
            if (run := self._run(run_id)) is None or schema.ROLE not in run.data.tags:
                continue
            live = self._is_live(run, read_with_parents(self.client, run.data.tags.get(schema.PARENT, "")))
            if live or run.info.status not in ENDED or self._model(model_id) is not None:
                continue
            kept = held.get(model_id, "") or held.get(run_id, "")
            yield self._piece(
                "files", place.as_posix(), f"of a deleted model, {run.info.status}", place.as_posix(), kept, run_id
            )

    def _run_piece(self, run_id: str, why: str, held: Mapping[str, str]) -> Piece:
        return self._piece("run", run_id, why, self.runs[run_id].info.artifact_uri, held.get(run_id, ""), run_id)

    def _piece(self, kind: str, name: str, why: str, location: str, kept: str, run_id: str) -> Piece:
        """Return a piece that has files; it stays where they are not among those of the experiment."""
        if not kept and not is_below(location, self.root):
            kept = f"its files are at {location}, outside of {self.root}"
        return Piece(kind, name, why, size_of(self.client, location), kept, run_id)

    def _run(self, run_id: str) -> Run | None:
        """Read a run, also one that was marked deleted; None where there is none."""
        return existing(self.client.get_run, run_id, codes=(ABSENT,))

    def _model(self, model_id: str) -> StoredModel | None:
        """Read a logged model; None where there is none or it was deleted."""
        found = existing(self.client.get_logged_model, model_id, codes=(ABSENT,))
        return None if found is None else StoredModel.of(found)


def _name(version: RegisteredVersion) -> str:
    return f"{version.name}/{version.version}"


def _needed(version: RegisteredVersion) -> set[str]:
    """Return what a version cannot do without, and itself: ids of its run and its logged model, names of versions."""
    source = version.source
    return {version.run_id, source.removeprefix("models:/"), _name(version), *MADE.findall(source)} - {""}


def read_with_parents(client: MlflowClient, run_id: str) -> dict[str, Run]:
    """Read a run and those above it; what was deleted is left out, as a search leaves it out."""

    def read(run_id: str) -> Run | None:
        run = existing(client.get_run, run_id, codes=(ABSENT,))
        return run if _is_active(run) else None

    return {run.info.run_id: run for run in with_parents(read(run_id) if run_id else None, read)}


def _is_active(run: Run | None) -> bool:
    return run is not None and run.info.lifecycle_stage == "active"
