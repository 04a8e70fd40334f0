"""A small store of studies and models, written as kdops writes them but without any training."""

from __future__ import annotations

import io
import json
import sqlite3
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from kdops.store.client import experiment_ids, paged
from kdops.store.database import ensure_store
from kdops.sweeps import schema
from kdops.tracking.catalog import Catalog, in_registry, read_aliases

DIGEST = "ab" * 32
SPLIT = "cd" * 32
NASTY = "a|b <script>alert(1)</script> _x_ [y](http://z) & \"q\" 'r' \\ $5 100 % {k} #1 ~2 ^3 `c` &amp; T² --"


def png(gray: int) -> bytes:
    """Return a PNG of one gray pixel."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    pixel = zlib.compress(bytes([0, gray]))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")


def row(what: str, mean: float, n: int = 3, models: int = 3) -> dict:
    bounds = {"low": mean - 0.01, "high": mean + 0.01} if n > 1 else {"low": None, "high": None}
    return {"what": what, "models": models, "mean": mean, **bounds, "n": n}


def finding(what: str, answer: str = "yes", mean: float | None = 0.95, unit: str = "accuracy", n: int = 3) -> dict:
    bounds = {"low": None, "high": None} if n == 1 or mean is None else {"low": mean - 0.01, "high": mean + 0.01}
    measured = None if mean is None else {"mean": mean, **bounds, "n": n, "level": 0.95}
    told = {"what": what, "paper": "0.9473", "measured": measured, "unit": unit, "answer": answer}
    return {**told, "sentence": f"The sentence of {what}."}


def answer(study: str, **given: object) -> dict:
    told = {"title": study, "word": None, "sentences": [], "claims": [], "statistics": {}, "rows": [], "findings": []}
    return {"study": study, **told, **given}


def settings(**given: object) -> dict:
    return {
        "settings": {"dataset": "digits", "transfer": "shared", "seeds": 3, "seed": 0, "temperatures": [1.0, 4.0]}
        | {"select_on": "validation", "margin": 0.02, "data_root": "", "recipes": {"student": {"epochs": 40}}}
        | given,
        "data": {"name": "digits", "digest": DIGEST, "notes": "Small images."},
        "split": {"digest": SPLIT, "teacher": 12, "transfer": [12, 12], "validation": 5, "test": 7},
        "versions": {"kdops": "0.1.0", "torch": "2.15.0"},
        "machine": {"python": "3.11.7", "system": "Linux"},
    }


RESULTS = """role,chain,temperature,seed,source,model,run_id,reused,val_accuracy,test_accuracy
teacher,teacher,0.0,0,labels,models:/kdops-digits-teacher/1,r1,True,0.97,0.1234567890123456789
student,teacher>student,4.0,0,models:/kdops-digits-teacher/1,models:/kdops-digits-student/1,r2,False,0.9,0.9
"""


@dataclass
class Shelf:
    """A store in a folder, and what it takes to fill it."""

    folder: Path
    models: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.uri = f"sqlite:///{self.folder / 'mlflow.db'}"

    def open(self, empty_database: Path) -> Shelf:
        """Begin with an empty store."""
        with sqlite3.connect(empty_database) as old, sqlite3.connect(self.folder / "mlflow.db") as new:
            old.backup(new)
        old.close()
        new.close()
        ensure_store(self.uri)  # its quick commits
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        self.experiment = self.client.create_experiment("kdops", str(self.folder / "mlruns"))
        self.clock = 1_700_000_000_000
        return self

    def study(
        self,
        name: str,
        *,
        told: dict | None = None,
        results: str | None = RESULTS,
        described: dict | None = None,
        figures: dict[str, bytes] | None = None,
        status: str = "FINISHED",
        parent: str = "",
        tags: dict[str, str] | None = None,
        metrics: dict[str, float] | None = None,
    ) -> str:
        """Make the run of a study; give its id."""
        self.clock += 1000
        parents = {"mlflow.parentRunId": parent} if parent else {}
        run_id = self.client.create_run(
            self.experiment,
            start_time=self.clock,
            run_name=f"{name} digits",
            tags={"kdops.study": name, "kdops.dataset": "digits", **parents, **(tags or {})},
        ).info.run_id
        for key, value in (metrics or {}).items():
            self.client.log_metric(run_id, key, value)
        place = Path(self.client.get_run(run_id).info.artifact_uri)
        files: dict[str, bytes] = {f"figures/{figure}": image for figure, image in (figures or {}).items()}
        if results is not None:
            files["results.csv"] = results.encode()
            files["settings.json"] = json.dumps(described or settings()).encode()
        if told is not None:
            files["answer.json"] = json.dumps(told).encode()
        for path, content in files.items():
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_bytes(content)
        if status != "RUNNING":
            self.client.set_terminated(run_id, status)
        return run_id

    def model(
        self,
        role: str,
        chain: str,
        sources: str = "labels",
        *,
        temperature: float | None = 0,
        seed: int | None = 0,
        val: float = 0.9,
        test: float = 0.8,
        status: str = "FINISHED",
        experiment: str = "",
        transfer: str = "shared",
    ) -> str:
        """Make a model's run and its registered version; give its URI. No model lies behind it."""
        self.clock += 1000
        name = f"kdops-digits-{role}"
        if name not in self.models:
            self.models[name] = self.client.create_registered_model(name).name
        run_id = self.client.create_run(
            experiment or self.experiment,
            start_time=self.clock,
            tags={
                "mlflow.parentRunId": "0" * 32,
                "kdops.role": role,
                "kdops.study": "transitivity",
                "kdops.dataset": "digits",
                "kdops.source": sources,
                "kdops.chain": chain,
                "kdops.split": SPLIT,
            },
        ).info.run_id
        known = {"temperature": temperature, "seed": seed}
        params = {key: f"{value:g}" for key, value in known.items() if value is not None}
        version = self.client.create_model_version(
            name,
            source=str(self.folder),
            run_id=run_id,
            tags={"transfer": transfer, "source": sources},
            await_creation_for=None,
        )
        uri = f"models:/{name}/{version.version}"
        numbers = {"val_accuracy": val, "val_nll": 1 - val, "test_accuracy": test}
        self.client.log_batch(
            run_id,
            metrics=[Metric(key, value, self.clock, 0) for key, value in numbers.items()],
            params=[Param(key, value) for key, value in {**params, "transfer": transfer, "parameters": "610"}.items()],
        )
        self.client.set_tag(run_id, "kdops.model", uri)
        self.client.set_terminated(run_id, status)
        return uri


def family(shelf: Shelf) -> dict[str, str]:
    """Fill a store with a teacher's whole family; give the URIs of those that tests name.

    Teachers 1 and 2; of teacher 1 students 1 to 7 (T = 1..7) and middle 1; of middle 1 student 8; an ensemble of
    students 1 to 7; of teacher 2 student 9, in another experiment; student 10 of student 9, whose version is deleted
    and which has reversed 1; student 11, whose run failed.
    """
    teacher = shelf.model("teacher", "teacher", val=0.97, test=0.96)
    other = shelf.model("teacher", "teacher", val=0.98, test=0.95, seed=1)
    students = [
        shelf.model("student", "teacher>student", teacher, temperature=t, val=0.9 + t / 100, test=0.8 + t / 100)
        for t in range(1, 8)
    ]
    middle = shelf.model("middle", "teacher>middle", teacher, temperature=4, val=0.94)
    via = shelf.model("student", "teacher>middle>student", middle, temperature=2, val=0.89)
    second = shelf.client.create_experiment("elsewhere", str(shelf.folder / "mlruns-2"))
    far = shelf.model("student", "teacher>student", other, temperature=2.5, seed=1, val=0.91, experiment=second)
    gone = shelf.model("student", "teacher>student>student", far, temperature=3, seed=1, val=0.99)
    grand = shelf.model("reversed", "teacher>student>student>reversed", gone, temperature=3, seed=1, val=0.93)
    shelf.model("student", "teacher>student", other, val=0.999, status="FAILED")
    ensemble = shelf.model("ensemble", "teacher>student>ensemble", " ".join(students), temperature=None, val=0.96)
    shelf.client.delete_model_version("kdops-digits-student", gone.rpartition("/")[2])
    shelf.client.set_registered_model_alias("kdops-digits-student", "champion", students[-1].rpartition("/")[2])
    return {
        "teacher": teacher,
        "other": other,
        "middle": middle,
        "via": via,
        "far": far,
        "gone": gone,
        "grand": grand,
        "ensemble": ensemble,
        "champion": students[-1],
    }


def lines_of(show, *what: object, width: int = 80, terminal: bool = False) -> list[str]:
    """Return what a function prints on a console, line by line."""
    from rich.console import Console

    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=terminal, color_system=None, highlight=False, soft_wrap=True
    )
    show(*what, console)
    return stream.getvalue().splitlines()


def read_catalog(client: MlflowClient) -> Catalog:
    """Read every finished model of a store as its run describes it, whatever that takes."""
    versions = paged(client.search_model_versions, "name LIKE 'kdops-%'")
    registered = {(f"models:/{v.name}/{v.version}", v.run_id): v.tags for v in versions}
    where = "tags.`kdops.model` != '' and attributes.status = 'FINISHED'"
    runs = paged(client.search_runs, experiment_ids(client), where, order_by=["attributes.start_time DESC"])
    aliases = read_aliases(client)
    found = ((model, registered.get((model.uri, model.run_id))) for _, model in schema.readable(runs))
    return Catalog(tuple(m if tags is None else in_registry(m, tags, aliases) for m, tags in found), aliases)
