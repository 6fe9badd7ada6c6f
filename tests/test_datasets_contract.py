"""Contract of every dataset layout in the folder of the layouts."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
from datasets_tools import picture
from pydantic import ValidationError

from duchenne.datasets.build import build_index
from duchenne.datasets.contract import Expected, layout_facts, layout_names, layout_reader
from duchenne.datasets.problems import IndexProblems
from duchenne.datasets.settings import Dataset
from duchenne.emotions import is_emotion

LAYOUTS = layout_names()
LABEL_SETS = [(layout, name) for layout in LAYOUTS for name in layout_facts(layout).label_sets]
EXPECTED = [(layout, name) for layout in LAYOUTS for name in layout_facts(layout).expected]


def block(layout: str, root: Path) -> Dataset:
    """A dataset of a layout with its default label set, or its first."""
    sets = layout_facts(layout).label_sets
    more = {"label_set": layout if layout in sets else next(iter(sets))} if sets else {"classes": ["anger", "joy"]}
    return Dataset(layout=layout, root=root, **more)


def test_the_papers_layouts_are_there():
    papers = {"raf_db", "affectnet", "caer_s", "dfew", "ferv39k", "mafw", "casme2", "samm", "smic", "megc2019"}
    assert papers | {"synth", "folder", "manifest", "fer2013", "casme3"} <= set(LAYOUTS)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_has_a_reader_and_facts(layout: str):
    module = layout_reader(layout)
    assert (module.__doc__ or "").strip()
    assert inspect.signature(module.read_listing).parameters.keys() == {"config"}
    facts = layout_facts(layout)
    assert facts.title
    assert facts.files
    assert set(facts.frames) <= {*facts.media, "any"}
    for rule in facts.frames.values():
        assert (rule.least is None) == rule.annotated
    for part, label_set in facts.parts.items():
        assert label_set in layout_facts(part).label_sets


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("stray", [False, True])
def test_a_root_without_the_dataset_is_one_error_that_says_what_to_do(tmp_path: Path, layout: str, stray: bool):
    if stray:
        (tmp_path / "read_me.txt").write_text("nothing else")
    with pytest.raises(IndexProblems) as caught:
        build_index("mine", block(layout, tmp_path))
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"dataset mine: 1 problem in {tmp_path}")
    facts = layout_facts(layout)
    if not stray:
        assert second == f"  is empty: layout {layout} ({facts.title}) needs {facts.files}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_root_that_is_not_there_is_one_error(tmp_path: Path, layout: str):
    with pytest.raises(IndexProblems, match=r"dataset mine: 1 problem in .*/absent\n  there is no such folder"):
        build_index("mine", block(layout, tmp_path / "absent"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_fields_that_a_layout_does_not_read_are_refused(layout: str):
    facts, base = layout_facts(layout), block(layout, Path()).model_dump(exclude_defaults=True)
    values = {"annotations": "x", "apex": "none", "manifest": "x.csv", "columns": {"x": "path"}, "splits": {"x": "val"}}
    for name, value in values.items():
        if name in facts.fields:
            Dataset.model_validate(base | {name: value})
        else:
            with pytest.raises(ValueError, match=f"{name}: layout {layout} does not read this: leave it out"):
                Dataset.model_validate(base | {name: value})
    for form in facts.media:
        Dataset.model_validate(base | {"media": form})
    with pytest.raises(ValueError, match=f"media: 'x' is not a form of layout {layout}"):
        Dataset.model_validate(base | {"media": "x"})


@pytest.mark.parametrize(("layout", "name"), LABEL_SETS)
def test_a_label_set_names_its_classes_once_and_leads_to_them(layout: str, name: str):
    labels = layout_facts(layout).label_sets[name]
    assert Dataset(layout=layout, label_set=name, root=".").classes == labels.classes
    assert labels.source
    assert all(map(is_emotion, labels.classes)) or set(labels.labels.values()) >= set(labels.classes)
    assert set(labels.labels.values()) <= {*labels.classes, *labels.ignore}
    assert not set(labels.classes) & set(labels.ignore)
    assert [other for _, other in LABEL_SETS].count(name) == 1


@pytest.mark.parametrize(("layout", "name"), EXPECTED)
def test_expected_numbers_add_up(layout: str, name: str):
    facts = layout_facts(layout)
    expected = facts.expected[name]
    classes = set(facts.label_sets[name.partition("/")[0]].classes)
    assert expected.source
    for counts in filter(None, (*expected.parts.values(), expected.classes)):
        assert set(counts) == classes
    tested = sum(sum(of.values()) - of["train"] for of in expected.folds.values())
    total = sum(expected.classes.values()) or tested or sum(sum(part.values()) for part in expected.parts.values())
    assert total or expected.counts
    for of in expected.folds.values():
        assert set(of) in ({*classes, "train"}, {"test", "train"})
        assert sum(of.values()) == total
    if expected.per_subject:
        assert len(expected.per_subject) == expected.subjects
        assert sum(expected.per_subject.values()) == total
    for values in expected.factors.values():
        assert sum(values.values()) == total


def test_nothing_published_is_nothing_to_compare():
    assert Expected().model_dump(exclude_defaults=True) == {}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (None, r"mini\.yaml is missing: it holds the facts of layout mini"),
        ("title: [", r"mini\.yaml is not valid YAML"),
        ("title: Mini\nfiles: x\nmedium: {}", r"mini\.yaml cannot be used:\n  medium: Extra inputs"),
        ("title: Mini", r"mini\.yaml cannot be used:\n  files: Field required"),
    ],
)
def test_facts_that_cannot_be_used_name_their_file(tmp_path, monkeypatch, facts, message):
    from duchenne.datasets import layouts

    monkeypatch.setattr(layouts, "__path__", [*layouts.__path__, str(tmp_path)])
    (tmp_path / "mini.py").write_text("")
    if facts:
        (tmp_path / "mini.yaml").write_text(facts)
    assert "mini" in layout_names()
    with pytest.raises(ValueError, match=message):
        Dataset(layout="mini", root=".", classes=["anger", "fear"])


def test_a_misspelt_layout_gets_the_nearest_name_and_no_other_error():
    with pytest.raises(
        ValidationError, match=r"'raf-db' is not a layout \(did you mean 'raf_db'\?\): give one of"
    ) as e:
        Dataset(layout="raf-db", root=".")
    assert e.value.error_count() == 1


def test_without_a_label_set_classes_must_be_given():
    with pytest.raises(ValueError, match="classes is missing: layout folder has no label set, so name them in order"):
        Dataset(layout="folder", root=".")


def test_the_configuration_needs_neither_pandas_nor_the_readers():
    code = "import sys, duchenne.config as c; c.whole_library(); print('pandas' in sys.modules, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_datasets_need_no_torch():
    code = (
        "import importlib, pkgutil, sys, duchenne.datasets as d\n"
        "names = [module.name for module in pkgutil.walk_packages(d.__path__, 'duchenne.datasets.')]\n"
        "for name in names: importlib.import_module(name)\n"
        "print('duchenne.datasets.layouts.mafw' in names, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


OWN = ["joy", "pain", "neutral"]


def own(root: Path, folders: list[str], **more) -> list[str]:
    """Emotions of the index of a tree with one picture a folder."""
    for folder in folders:
        picture(root / folder / "1.jpg")
    return build_index("mine", Dataset(layout="folder", root=root, **{"classes": OWN} | more)).rows["emotion"].tolist()


def test_own_classes_need_no_list(tmp_path):
    assert own(tmp_path, ["Joy", "pain", "neutral"]) == ["joy", "neutral", "pain"]


def test_a_misspelling_of_an_own_class_gets_the_nearest_name(tmp_path):
    with pytest.raises(IndexProblems) as caught:
        own(tmp_path, ["joy", "pian", "neutral"])
    first, second, place = str(caught.value).splitlines()
    assert first.startswith("dataset mine: 1 problem in")
    assert second == (
        "  label: 'pian' is none of the classes ['joy', 'pain', 'neutral'] (did you mean 'pain'?): map it to a class "
        "under datasets.mine.labels, or add it to datasets.mine.classes"
    )
    assert place.strip() == "pian/1.jpg"


def test_known_emotions_are_understood_beside_own_classes(tmp_path):
    assert own(tmp_path, ["Happy", "boredom"], classes=["happiness", "boredom"]) == ["happiness", "boredom"]
    with pytest.raises(IndexProblems, match="'Sad' is none of the classes"):
        own(tmp_path, ["Sad"], classes=["happiness", "boredom"])


@pytest.mark.parametrize(
    ("name", "like"), [("hapiness", "happiness"), ("sad", "sadness"), ("fear_suprise", "fear_surprise")]
)
def test_a_class_that_looks_like_a_known_emotion_must_be_confirmed(name, like):
    with pytest.raises(ValueError, match=rf"classes: '{name}' is misspelt \(did you mean '{like}'\?\)"):
        Dataset(layout="folder", root=".", classes=[name, "anger"])
    config = Dataset(layout="folder", root=".", classes=[name, "anger"], labels={name: name})
    assert config.classes == [name, "anger"]


def test_a_confirmed_class_goes_before_the_emotion_that_it_looks_like(tmp_path):
    assert own(tmp_path, ["sad", "1"], classes=["sad", "anger"], labels={"1": "sad"}) == ["sad", "sad"]


@pytest.mark.parametrize("name", ["joy", "pain", "engagement", "boredom", "confusion", "contentment", "au_12", "calm"])
def test_words_of_ones_own_are_classes(name):
    assert Dataset(layout="folder", root=".", classes=[name, "anger"]).classes == [name, "anger"]


@pytest.mark.parametrize("name", ["Joy", "", "full of joy", "喜"])
def test_names_of_classes_are_plain(name):
    with pytest.raises(ValueError, match="is not a class name: use lower-case letters, digits, _ and -"):
        Dataset(layout="folder", root=".", classes=[name, "anger"])
