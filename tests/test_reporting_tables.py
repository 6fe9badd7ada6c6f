"""The papers' tables with our values in them: printed values are unchanged, with measured values below them."""

from __future__ import annotations

import math
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from duchenne.config import Catalog, whole_library
from duchenne.evaluation.complexity import count_published
from duchenne.evaluation.rules import by_rule, measure_rules
from duchenne.evaluation.statistics import evaluate
from duchenne.files import write_json
from duchenne.papers.printed import papers
from duchenne.reporting.basis import basis_of
from duchenne.reporting.complexity import complexity_row
from duchenne.reporting.tables import PaperTable, escaped, write_table, write_tables
from duchenne.workspace import Workspace

CLASSES = ["surprise", "fear", "disgust", "happiness", "sadness", "anger", "neutral"]
COUNT = sum(len(paper.tables) for paper in papers())


def finish(
    workspace: Workspace,
    name: str,
    selection: str,
    wrong: int,
    folds: int = 1,
    n: int = 700,
    further: Sequence[int] = (),
    **rules: int,
) -> dict:
    """Results of a run that takes every sample for its own class, but for the first ``wrong`` of each fold.

    ``further`` are the wrong samples of further seeds. With ``rules``, a number of wrong samples of each fold by rule,
    the predictions of other rules were kept too.
    """
    frame = pd.DataFrame({"sample": [f"s{i}" for i in range(n)], "label": [i % 7 for i in range(n)], "confidence": 0.9})
    frame["fold"] = [i * folds // n + 1 for i in range(n)]
    frame["subject"] = frame["sample"]
    place = frame.groupby("fold").cumcount()
    answers = [frame["label"].where(place >= missed, (frame["label"] + 1) % 7) for missed in (wrong, *further)]
    frame = pd.concat([frame.assign(seed=seed, predicted=each) for seed, each in enumerate(answers)])
    rest = 0.1 / 6
    probabilities = {f"p_{name}": np.where(frame["predicted"] == i, 0.9, rest) for i, name in enumerate(CLASSES)}
    frame = frame.assign(**probabilities)
    kept = {}
    for fold, samples in frame.groupby("fold"):
        tables = []
        for epoch, (rule, missed) in enumerate(rules.items(), 1):
            answers = (samples["label"] + (np.arange(len(samples)) < missed)) % 7
            logits = {f"logit_{name}": np.float32(answers == i) for i, name in enumerate(CLASSES)}
            tables.append(pd.DataFrame({"rule": rule, "epoch": epoch, "sample": samples["sample"]} | logits))
        if tables:
            kept[0, fold] = pd.concat(tables)
            workspace.fold(name, fold).mkdir(parents=True)
            kept[0, fold].to_parquet(workspace.fold(name, fold) / "rules.parquet")
    metrics = evaluate(frame, CLASSES, 100) | {"selection": selection}
    metrics |= measure_rules(by_rule(frame, kept, CLASSES, selection), CLASSES, "war", 100)
    write_json(workspace.results(name) / "metrics.json", metrics)
    frame.to_parquet(workspace.results(name) / "predictions.parquet", index=False)
    return metrics


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return whole_library()


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """POSTER++ on RAF-DB run twice, POSTER in training, IFDD run over five folds, everything else not run."""
    workspace = Workspace(tmp_path_factory.mktemp("project"))
    finish(workspace, "poster_v2_rafdb", "test", wrong=63, last=84, test=63)  # 91.00 %, after the last epoch 88.00 %
    finish(workspace, "poster_v2_rafdb_honest", "val", wrong=70)  # 90.00 %
    write_json(
        workspace.results("poster_v2_rafdb") / "complexity.json",
        {"params_so_counted": 43.79, "flops_so_counted": 8.478},
    )
    write_json(workspace.training_record("poster_v2_rafdb"), {"id": "5b10"})
    finish(workspace, "ifdd_3dvit_dfew", "val", wrong=35, folds=5)  # 75.00 % of every fold
    finish(workspace, "ifdd_3dvit_ferv39k", "val", 420)
    finish(workspace, "ifdd_3dvit_ferv39k_seeds", "val", 420, further=[427, 406])  # 40, 39 and 42 %
    write_json(workspace.training_record("ifdd_3dvit_ferv39k_seeds"), {"id": "77aa"})
    workspace.fold_state("poster_rafdb", 1).mkdir(parents=True)
    for dataset in ("raf_db", "dfew", "ferv39k"):
        write_json(workspace.audit(dataset), {"flaws": []})
    return workspace


@pytest.fixture(scope="module")
def tables(catalog: Catalog, workspace: Workspace) -> dict[str, PaperTable]:
    return {table.slug: table for table in write_tables(catalog, workspace, workspace.reports / "tables")}


def test_what_was_never_added_is_marked_all_the_same(tmp_path: Path):
    """With nothing in params.yaml, each cell has the basis that the library's variant has."""
    written = write_tables(Catalog(datasets={}, variants={}), Workspace(tmp_path), tmp_path / "tables")
    known = whole_library().variants
    for table in written:
        for cell in table.cells.dropna(subset=["variant"]).itertuples():
            assert cell.basis == basis_of(known[cell.variant].model), (table.slug, cell.variant)
    assert "is a reconstruction" in (tmp_path / "tables" / "frl_dgt_composite.tex").read_text(encoding="utf-8")


def lines(table: PaperTable, method: str) -> dict[str, list[str]]:
    """``Value`` -> texts of the paper's columns, of one method and the lines of ours below it."""
    frame = table.frame.to_dict("split")["data"]
    start = next(i for i, line in enumerate(frame) if line[0] == method)
    end = next((i for i, line in enumerate(frame) if i > start and line[0]), len(frame))
    return {f"{i - start} {line[1]}": line[2:] for i, line in enumerate(frame[start:end], start)}


def test_a_run_of_several_seeds_has_their_mean_and_spread(tables: dict[str, PaperTable]):
    table = next(table for table in tables.values() if table.runs["Variant"].str.contains("_seeds").any())
    found = lines(table, "IFDD-3DViT")
    mean = next(key for key in found if key.endswith("ifdd_3dvit_ferv39k_seeds"))
    assert found[mean] == ["40.33", "40.33"]
    after = list(found)[list(found).index(mean) + 1 :][:3]
    assert [key.partition(" ")[2] for key in after] == ["95 %", "seeds", "difference"]
    assert [found[key] for key in after[1:]] == [["± 1.53"] * 2, ["+1.18", "−10.76"]]  # of 39.15 and 51.09
    facts = table.runs.set_index("Seed").loc["0, 1, 2"]
    assert (facts["Variant"], facts["Training run"]) == ("ifdd_3dvit_ferv39k_seeds", "77aa")


def test_every_row_stands_as_printed_and_in_its_order(tables: dict[str, PaperTable]):
    assert len(tables) == COUNT
    for paper in papers():
        for table in paper.tables:
            frame = tables[f"{paper.slug}_{table.table.lower().replace(' ', '_')}"].frame
            assert list(frame.columns[2:]) == [column.name for column in table.columns]
            printed = [
                line[1:] for line in frame[frame["Value"].str.startswith("paper")].drop(columns="Value").itertuples()
            ]
            assert printed == [
                (row.method, *("–" if text == "nan" else text for text in row.printed)) for row in table.rows
            ]


def test_ours_stands_below_with_interval_and_difference(workspace: Workspace, tables: dict[str, PaperTable]):
    found = lines(tables["poster_v2_table_3"], "POSTER++")
    low, high = (100 * evaluated(workspace, "poster_v2_rafdb")[f"war_{end}"] for end in ("low", "high"))
    assert found["0 paper, best on test"] == ["92.21", "67.49", "63.77"]
    assert found["1 ours (optimistic)"] == ["91.00", "not run", "not run"]
    assert found["2 95 %"] == [f"{low:.2f}–{high:.2f}", "", ""]
    assert found["3 difference"] == ["−1.21", "", ""]
    assert found["4 ours, last epoch"] == ["88.00", "", ""]
    assert re.fullmatch(r"8\d\.\d\d–9\d\.\d\d", found["5 95 %"][0])
    assert found["6 difference"] == ["−4.21", "", ""]
    assert found["7 poster_v2_rafdb_honest"] == ["90.00", "", ""]
    assert found["9 difference"] == ["−2.21", "", ""]
    assert found["10 poster_v2_rafdb_honest, best on test (optimistic)"] == ["not kept", "", ""]
    assert len(found) == 11


def test_recalls_and_folds_stand_under_the_other_rule_too(catalog: Catalog, tmp_path: Path):
    workspace = Workspace(tmp_path)
    finish(workspace, "poster_v2_rafdb", "test", wrong=7, last=14, test=7)  # 1 and 2 of 100 of each class
    finish(workspace, "ifdd_3dvit_dfew", "train", wrong=35, folds=5, last=42, val=28, test=21, train=35)
    for dataset in ("raf_db", "dfew"):
        write_json(workspace.audit(dataset), {"flaws": []})
    library = catalog.variants["ifdd_3dvit_dfew"]
    train = library.model_copy(update={"selection": "train", "monitor": "loss"})
    catalog = catalog.model_copy(update={"variants": catalog.variants | {"ifdd_3dvit_dfew": train}})
    tables = {table.slug: table for table in write_tables(catalog, workspace, tmp_path / "tables")}
    found = lines(tables["poster_v2_table_4"], "RAF-DB, POSTER++")
    assert found["4 ours, last epoch"] == ["98.00"] * 7 + ["–", "98.00"]
    found = lines(tables["ifdd_table_13"], "DFEW, IFDD-3DViT")
    assert found["1 ours"] == ["75.00"] * 10
    assert found["3 ours, best in validation"] == ["80.00"] * 10
    found = lines(tables["ifdd_table_2"], "temporal correlation, interpolation")
    assert found["4 ours, best in validation"] == ["80.00", "80.00"]
    assert found["5 folds"] == ["± 0.00", "± 0.00"]
    table = pd.read_csv(tmp_path / "tables" / "poster_v2_table_4.csv")
    under = table[(table["variant"] == "poster_v2_rafdb") & (table["selection"] == "last epoch")]
    assert set(under["paper_selection"]) == {"test"}
    assert under["ours"].dropna().tolist() == pytest.approx([98.0] * 8)


def evaluated(workspace: Workspace, name: str) -> dict:
    return pd.read_json(workspace.results(name) / "metrics.json", typ="series").to_dict()


def test_a_run_in_training_and_one_that_never_ran_say_so(tables: dict[str, PaperTable]):
    found = lines(tables["poster_v2_table_3"], "POSTER")
    assert found == {"0 paper, best on test": ["92.05", "67.31", "63.34"], "1 ours": ["running", "not run", "not run"]}


def test_a_row_of_others_has_no_line_of_ours(tables: dict[str, PaperTable]):
    assert list(lines(tables["poster_v2_table_3"], "DAN (2021)")) == ["0 paper"]


def test_how_each_value_came_about(tables: dict[str, PaperTable]):
    runs = tables["poster_v2_table_3"].runs.set_index("Variant")
    assert runs.loc["poster_v2_rafdb"].to_dict() == {
        "Status": "run",
        "Network": "code",
        "Dataset": "as published",
        "Selection": "best epoch on the test part (optimistic)",
        "Seed": "0",
        "Folds": "1",
        "Tested": "700",
        "Training run": "5b10",
    }
    assert runs.loc["poster_v2_rafdb_honest", "Selection"] == "best epoch in validation"
    assert runs.loc["poster_rafdb", "Status"] == "running"
    assert set(runs.loc["poster_affectnet_7"]) == {"not run", "code", ""}
    assert {tuple(table.runs) for table in tables.values()} == {tuple(tables["poster_v2_table_3"].runs)}


def test_sizes_are_cut_or_rounded_as_the_paper_does(tables: dict[str, PaperTable]):
    """43.79 M are printed as 43.7, 8.478 G as 8.4: POSTER++ cuts off."""
    found = lines(tables["poster_v2_table_6"], "POSTER++")
    assert found["1 ours (optimistic)"][:2] == ["43.7", "8.4"]
    assert found["3 difference"][:2] == ["+0.0", "+0.0"]


def test_a_class_that_a_set_does_not_have_is_no_run_to_come(tables: dict[str, PaperTable]):
    found = lines(tables["poster_v2_table_4"], "AffectNet (7 cls), POSTER")
    contempt = list(tables["poster_v2_table_4"].frame.columns[2:]).index("Contempt")
    assert found["1 ours"][contempt] == "–"
    assert found["1 ours"].count("not run") == 8


def test_over_folds_ours_is_the_mean_where_the_papers_is(tables: dict[str, PaperTable]):
    found = lines(tables["ifdd_table_6"], "IFDD-3DViT")  # FERV39k has no folds
    assert found["1 ours"] == ["40.00", "40.00"]
    assert all(re.fullmatch(r"3\d\.\d\d–4\d\.\d\d", text) for text in found["2 95 %"])
    found = lines(tables["ifdd_table_2"], "temporal correlation, interpolation")
    assert found["1 ours"] == ["75.00", "75.00"]
    assert found["2 folds"] == ["± 0.00", "± 0.00"]
    assert found["3 difference"] == ["+13.81", "+1.18"]
    assert "means over the folds" in tables["ifdd_table_2"].note


def test_every_fold_stands_in_the_table_of_the_folds(tables: dict[str, PaperTable]):
    assert lines(tables["ifdd_table_13"], "DFEW, IFDD-3DViT")["1 ours"] == ["75.00"] * 10


def test_the_files_say_what_the_tables_say(workspace: Workspace, tables: dict[str, PaperTable]):
    folder = workspace.reports / "tables"
    assert {path.name for path in folder.iterdir()} == {f"{slug}.{end}" for slug in tables for end in ("csv", "tex")}
    table = pd.read_csv(folder / "poster_v2_table_3.csv", dtype={"paper": str})
    ours, under = (row for _, row in table[table["variant"] == "poster_v2_rafdb"].iterrows())
    assert (under["selection"], under["ours"]) == ("last epoch", pytest.approx(88))
    assert (ours["method"], ours["column"], ours["paper"]) == ("POSTER++", "RAF-DB", "92.21")
    assert (ours["ours"], ours["difference"]) == (pytest.approx(91), pytest.approx(91 - 92.21))
    assert (ours["status"], ours["training_run"]) == ("run", "5b10")
    never = table[(table["method"] == "DAN (2021)") & (table["column"] == "RAF-DB")].squeeze()
    assert never["paper"] == "89.70"
    assert math.isnan(never["ours"])


@pytest.mark.parametrize(
    "slug", ["poster_v2_table_6", "ifdd_table_5", "frl_dgt_ablations", "poster_supplement_table_1"]
)
def test_the_latex_has_every_cell_and_nothing_that_latex_would_refuse(tables: dict[str, PaperTable], workspace, slug):
    text = (workspace.reports / "tables" / f"{slug}.tex").read_text(encoding="utf-8")
    body = [line for line in text.splitlines() if not line.startswith("%")]
    assert body[0].startswith(r"\begin{tabular}{ll")
    rules = [i for i, line in enumerate(body) if line.startswith("\\") and "rule" in line]
    assert [body[i] for i in rules] == [r"\toprule", r"\midrule", r"\bottomrule"]
    rows = [line.removesuffix(r" \\").split(" & ") for line in body[: rules[-1]] if line.endswith(r"\\")]
    notes = body[rules[-1] + 1 : -1]
    assert body[-1] == r"\end{tabular}"
    assert len(notes) == len(tables[slug].footnotes)
    assert all(note.startswith(rf"\multicolumn{{{len(rows[0])}}}") and note.endswith(r"\\") for note in notes)
    frame = tables[slug].frame
    assert len(rows) == len(frame) + 1
    assert {len(row) for row in rows} == {len(frame.columns)}
    assert not re.search(r"(?<!\\)[#%_]|[−–±†‡]", "\n".join(body).replace("{tabular}", ""))
    assert not any(line.startswith(("[", "*")) for line in body)  # would be an argument of the line break above
    assert tables[slug].source in text


COMMAND = re.compile(r"\\(?:[A-Za-z]+\{\}|.)|\{(?:\\char34|.)\}|\{\}|\$[^$]+\$|--|.")
SHOWN = {r"\textbackslash{}": "\\", r"\textasciicircum{}": "^", r"\textasciitilde{}": "~", r"\textbar{}": "|",
         r"\textless{}": "<", r"\textgreater{}": ">", r"{\char34}": '"', r"\S{}": "§", "{}": "", "--": "–",
         "$-$": "−", r"$\pm$": "±", r"$\dagger$": "†", r"$\ddagger$": "‡"}  # fmt: skip
EVERY = [chr(code) for code in range(32, 127)] + list("−–±†‡§é中")


def shown(latex: str) -> str:
    """What LaTeX shows of a text."""
    found = []
    for token in COMMAND.findall(latex):
        if token not in SHOWN and len(token) == 1:
            assert token not in '\\{}$&#^_%~<>"[]*`|−–±†‡§'
        found.append(SHOWN.get(token, token.strip("\\{}") or token[-1] if len(token) == 2 else token.strip("{}")))
    return "".join(found)


def test_latex_shows_every_text_as_it_is():
    for pair in map("".join, product(EVERY, EVERY)):
        latex = escaped(f"a{pair}b")
        assert shown(latex) == " ".join(f"a{pair}b".split())
        assert not re.search(r"---|''|,,|[?!]`", latex)  # LaTeX has one sign for each of these
    assert escaped("a\n\n b\t\r\x00\u202ec\ud800") == r"a b \textbackslash{}x00\textbackslash{}u202ec" + (
        r"\textbackslash{}ud800"
    )


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="needs pdfLaTeX")
def test_pdflatex_takes_a_table_of_every_character(tmp_path: Path):
    texts = [f"{one}{other}" for one, other in product(EVERY[:-1], repeat=2) if not (one + other).isalnum()]
    frame = pd.DataFrame({"a_%": [1.0] * len(texts)}, texts).rename_axis("run")
    write_table(tmp_path / "t", frame, frame, "Run #", "note\n\\undefined")
    body = (tmp_path / "t.tex").read_text(encoding="utf-8")
    body = body.replace("tabular}", "longtable}")  # thousands of rows
    packages = r"\usepackage{booktabs,longtable}"
    (tmp_path / "d.tex").write_text(
        rf"\documentclass{{article}}{packages}\begin{{document}}{chr(10)}{body}\end{{document}}", encoding="utf-8"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "d.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout[-2000:]


MARKED = {
    "poster_supplement_table_1": {"[512]": "‡", "[512, 256]": "‡", "[512, 256, 128]": "", "[512, 256, 128, 64]": "‡"},
    "poster_supplement_table_2": {"No swap": "‡", "swap for the first four blocks": "‡", "swap for all 8 blocks": ""},
    "poster_supplement_table_4": {"Image only, 8 (single ViT)": "†", "POSTER-T, 4 (Cross-Fusion)": ""},
    "poster_v2_table_1": {
        "Baseline": "‡", "POSTER": "", "w/o image to landmark branch": "‡", "w/o landmark to image branch": "‡",
    },
    "poster_v2_table_7": {"without (marked as with)": "", "with (marked as without)": "‡"},
    "poster_v2_table_8": {"POSTER++": "", "w/o ViT": "‡", "w/o W-MCSA": "‡", "w/o cross-fusion": "‡"},
    "ifdd_table_1": {"2DCNN with both": "†", "3DViT with both": "", "3DViT with LADM": ""},
    "ifdd_table_5": {"IFDD-2DCNN": "†", "MobileNetV2 (Baseline)": "†", "MViT (Baseline)": "", "IFDD-3DViT": ""},
    "ifdd_table_6": {"IFDD-2DCNN": "†", "IFDD-3DViT": ""},
    "ifdd_table_13": {"MAFW, IFDD-2DCNN": "†", "MAFW, IFDD-3DViT": ""},
    "frl_dgt_composite": {"FRL-DGT": "†"},
}  # fmt: skip


@pytest.mark.parametrize("slug", MARKED)
def test_reconstructions_and_readings_are_marked_in_every_form(tables: dict[str, PaperTable], workspace, slug: str):
    table, text = tables[slug], (workspace.reports / "tables" / f"{slug}.tex").read_text(encoding="utf-8")
    cells = pd.read_csv(workspace.reports / "tables" / f"{slug}.csv")
    names = {"": "code", "†": "reconstruction", "‡": "reading"}
    for method, mark in MARKED[slug].items():
        label = list(lines(table, method))[1]
        assert re.sub(r" \(optimistic\)", "", label) == f"1 ours {mark}".rstrip(), method
        assert set(cells.loc[(cells["method"] == method) & cells["variant"].notna(), "basis"]) == {names[mark]}
    used = set("".join(table.frame["Value"])) & {"†", "‡"}
    assert [note[0] for note in table.footnotes] == [mark for mark in "‡†" if mark in used]
    for mark, command in (("†", r"$\dagger$"), ("‡", r"$\ddagger$")):
        assert (f"{command} Ours is a re" in text) == (mark in used)


def test_the_transformer_blocks_of_poster_have_their_own_sizes(catalog: Catalog, tmp_path: Path):
    """19.71 M and 2.14 G are ours, and the whole network as the paper counts it."""
    workspace = Workspace(tmp_path)
    size = asdict(count_published("poster_t", 7)) | {"input_size": [3, 224, 224], "seconds": 1.0}
    row = complexity_row(catalog, "poster_t_rafdb", size)
    assert (row["input"], row["seconds"]) == ("3x224x224", 1.0)
    write_json(workspace.results("poster_t_rafdb") / "complexity.json", row)
    table = next(t for t in write_tables(catalog, workspace, tmp_path) if t.slug == "poster_supplement_table_4")
    found = lines(table, "POSTER-T, 4 (Cross-Fusion)")
    assert found["0 paper, best on test"][:4] == ["19.7", "2.4", "52.2", "13.6"]
    assert found["1 ours"][:4] == ["19.7", "2.1", "52.2", "13.6"]
    assert found["2 difference"][:4] == ["+0.0", "−0.3", "+0.0", "+0.0"]


def test_the_same_results_give_the_same_files(catalog: Catalog, workspace: Workspace, tables, tmp_path: Path):
    write_tables(catalog, workspace, tmp_path)
    for path in (workspace.reports / "tables").iterdir():
        assert path.read_bytes() == (tmp_path / path.name).read_bytes()


def test_a_dataset_that_is_not_as_published_is_marked(catalog: Catalog, tmp_path: Path):
    workspace = Workspace(tmp_path)
    finish(workspace, "poster_v2_rafdb", "test", wrong=63)
    write_json(workspace.results("poster_v2_rafdb") / "complexity.json", {"params_so_counted": 43.79})
    write_json(workspace.audit("raf_db"), {"flaws": ["14 of 15,339 samples are used (limit)", "lists differ"]})
    tables = {table.slug: table for table in write_tables(catalog, workspace, tmp_path / "out")}
    table = tables["poster_v2_table_3"]
    assert lines(table, "POSTER++")["1 ours (optimistic) §"] == ["91.00", "not run", "not run"]
    note = "raf_db is not as published: 14 of 15,339 samples are used (limit); lists differ."
    assert table.footnotes == [f"§ {note}"]
    state = "not as published: 14 of 15,339 samples are used (limit); lists differ"
    assert table.runs.set_index("Variant")["Dataset"]["poster_v2_rafdb"] == state
    text = (tmp_path / "out" / "poster_v2_table_3.tex").read_text(encoding="utf-8")
    assert r"\footnotesize \S{} raf\_db is not as published: 14 of 15,339 samples" in text
    assert r"ours (optimistic) \S{} & 91.00" in text
    cells = pd.read_csv(tmp_path / "out" / "poster_v2_table_3.csv").set_index("variant")["dataset"]
    assert cells["poster_v2_rafdb"] == state

    workspace.audit("raf_db").unlink()
    tables = {table.slug: table for table in write_tables(catalog, workspace, tmp_path / "again")}
    assert "not compared" in tables["poster_v2_table_3"].footnotes[0]
