"""Statistics, tables and figures, and everything that is published."""

from __future__ import annotations

import csv
import dataclasses
import importlib
import math
import re
from pathlib import Path

import numpy as np
import pytest
from support.basics import ON_ONE
from support.tiny_study import fake_record, fake_result, tiny_study

from studies.engine import (
    Method,
    Network,
    command_line,
    figures,
    least_action,
    measures,
    records,
    report,
    rival,
    rivals,
    tables,
)
from studies.engine.statistics import mean_interval, paired_difference

pytestmark = ON_ONE

stats = pytest.importorskip("scipy.stats")

ROOT = Path(__file__).parents[2]
# Those that have presets; `silent_channels` looks into networks of one of them.
SCRIPTS = [
    path
    for path in sorted((ROOT / "studies" / "paper").glob("[!_]*.py"))
    if "PRESETS = " in path.read_text(encoding="utf-8")
]
RESULTS = [
    path
    for path in sorted((ROOT / "studies" / "results").glob("*.jsonl"))
    if path.stem.split("-")[0] in {script.stem for script in SCRIPTS}
]
DRAWN = [
    path for path in RESULTS if path.with_name(f"{path.stem}-accuracies.png").exists()
]
# Those whose protocol is in no paper.
OURS = ("good_starts", "two_circles")
METHOD = "least action, λ_0 = 0.5"


def script_of(result_file):
    """The script of a result file and the name of its preset."""
    name, _, preset = result_file.stem.rpartition("-")
    return importlib.import_module(f"studies.paper.{name}"), preset


def synthetic(seeds=10, gain=0.05):
    """A study whose least action gains `gain`, a little more for each seed."""
    study = tiny_study(seeds=range(seeds))
    setting = study.settings[0]
    found = []
    for seed in study.seeds:
        for method in setting.methods:
            added = 0 if method.kind == "plain" else gain + 0.001 * seed
            accuracy = np.array([0.5, 0.6, 0.55]) + 0.01 * (seed % 3) + added
            multiplier = None if method.kind == "plain" else [1.0, 2.0, 4.0]
            result = fake_result(accuracy, cost=2.0 + seed, multiplier=multiplier)
            found.append(fake_record(study.run(setting, method, seed), result))
    return study, found


def by_fingerprint(found):
    return {record["fingerprint"]: record for record in found}


def test_mean_and_interval():
    values = [70.1, 68.4, 75.0, 71.3]
    interval = mean_interval(values)
    expected = stats.t.interval(
        0.95, 3, loc=np.mean(values), scale=np.std(values, ddof=1) / 2
    )
    np.testing.assert_allclose((interval.low, interval.high), expected)
    # Student's quantile for 3 degrees of freedom, from a printed table.
    assert interval.half_width == pytest.approx(
        3.182 * interval.deviation / 2, rel=1e-3
    )
    assert mean_interval([5.0]).mean == 5
    assert math.isnan(mean_interval([5.0]).half_width)
    assert math.isnan(mean_interval([]).mean)


def test_paired_difference():
    before, after = [50.0, 60.0, 55.0, 40.0], [61.0, 66.0, 70.0, 44.0]
    interval, p_value = paired_difference(before, after)
    assert interval.mean == 9
    t = 9 / (np.std([11, 6, 15, 4], ddof=1) / 2)
    assert p_value == pytest.approx(2 * stats.t.sf(t, 3))
    assert paired_difference([1.0, 2.0], [1.0, 2.0])[1] == 1
    assert paired_difference([1.0, 2.0], [2.0, 3.0])[1] == 0
    assert math.isnan(paired_difference([1.0], [2.0])[1])
    with pytest.raises(ValueError, match="2 and 1"):
        paired_difference([1.0, 2.0], [1.0])


def test_measures():
    study = tiny_study()
    run = next(study.runs())
    record = fake_record(run, fake_result([0.5, 0.6, 0.8], multiplier=[1.0, 2.0, 4.0]))
    assert measures.highest_accuracy(record) == 80
    assert measures.chosen_accuracy(record) == 60  # validation is best at epoch 1
    assert measures.last_accuracy(record) == 80
    assert measures.best_validation_accuracy(record) == 90
    assert measures.last_loss(record) == 0.5
    assert measures.transport_cost(record) == 3
    assert measures.final_multiplier(record) == 4
    record["result"] |= {"block_costs": [1.0, None], "task_loss": [1.0, None]}
    del record["result"]["validation_accuracy"], record["result"]["multiplier"]
    assert measures.transport_cost(record) == math.inf
    for measure in (
        measures.last_loss,
        measures.chosen_accuracy,
        measures.final_multiplier,
        measures.best_validation_accuracy,
    ):
        assert math.isnan(measure(record))


def test_comparison_table():
    study, found = synthetic()
    table = tables.comparison(study, by_fingerprint(found))
    plain, least = (dict(zip(table.header, row, strict=True)) for row in table.rows)
    assert plain["setting"] == least["setting"] == "tiny"
    assert (plain["method"], least["method"]) == ("plain", METHOD)
    assert (plain["seeds"], least["seeds"]) == ("10", "10")
    assert (plain["slides"], least["slides"]) == ("56.4 [54.9, 58.0]", "–")
    highest = 60 + np.arange(10) % 3
    half = stats.t.ppf(0.975, 9) * highest.std(ddof=1) / np.sqrt(10)
    expected = f"{highest.mean():.1f} [{highest.mean() - half:.1f}, "
    assert plain["highest"].startswith(expected)
    assert plain["last"].startswith("55.9")
    assert plain["change of highest"] == "–"
    gains = 5 + 0.1 * np.arange(10)
    half = stats.t.ppf(0.975, 9) * gains.std(ddof=1) / np.sqrt(10)
    low, high = gains.mean() - half, gains.mean() + half
    assert least["change of highest"] == f"+5.5 [{low:+.1f}, {high:+.1f}], p < 0.001"
    assert (plain["transport cost"], plain["λ"], least["λ"]) == ("6.5", "–", "4")


def test_cells_without_enough_seeds_say_so():
    study, found = synthetic()
    table = tables.comparison(study, by_fingerprint(found[:5]))
    assert [row[2] for row in table.rows] == [
        "3 of 10: too few to conclude",
        "2 of 10: too few to conclude",
    ]
    empty = tables.comparison(study, {})
    assert [row[2:] for row in empty.rows] == [
        ("not run", "56.4 [54.9, 58.0]", *["–"] * 9),
        ("not run", *["–"] * 10),
    ]
    three, found = synthetic(seeds=3)
    rows = tables.comparison(three, by_fingerprint(found)).rows
    assert rows[0][2] == "3: too few to conclude"


def test_search_table_has_no_test_accuracy():
    study, found = synthetic()
    for record in found:
        record["result"]["test_accuracy"] = None
    rows = tables.search(study, by_fingerprint(found)).rows
    assert rows[0][3] == "90.0 [90.0, 90.0]"
    assert rows[1][4] == "+0.0 [+0.0, +0.0], p = 1.000"


def test_rivals_are_chosen_by_validation_alone():
    plain, ours = tiny_study().settings[0].methods
    weak, strong = rival("weight decay", 0.01), rival("weight decay", 0.1)
    study = tiny_study(seeds=range(10))
    setting = dataclasses.replace(
        study.settings[0], methods=(plain, ours, weak, strong)
    )
    study = dataclasses.replace(study, settings=(setting,))
    accuracies = {plain: (0.5, 0.5), ours: (0.6, 0.6), weak: (0.8, 0.5)}
    results = {}
    for method in setting.methods:
        for seed in study.seeds:
            test, validation = accuracies.get(method, (0.58, 0.55))
            run = study.run(setting, method, seed)
            result = {
                **fake_result([0.9, test - 0.001 * seed]),
                "validation_accuracy": [0.99, validation],
            }
            results[run.fingerprint()] = fake_record(run, result)
    table = rivals.rivals(study, results)
    rows = [dict(zip(table.header, row, strict=True)) for row in table.rows]
    assert [row["chosen"] for row in rows] == [str(ours), str(strong)]
    assert [row["of"] for row in rows] == ["1", "2"]
    assert rows[0]["it − plain, last"].startswith("+10.0 [")
    assert rows[1]["it − plain, last"].startswith("+8.0 [")
    assert rows[1]["least action − it, last"].startswith("+2.0 [")
    assert rows[1]["least action − it, highest"].startswith("+0.0 [")
    few = {key: results[key] for key in [*results][:35]}  # of one strength five seeds
    assert rivals.rivals(study, few).rows[1][4] == "5 of 10: too few to conclude"
    assert not rivals.rivals(tiny_study(), {}).rows


def test_correlation_table():
    study, found = synthetic()
    for number, record in enumerate(found):
        record["result"]["test_accuracy"] = [0.9 - 0.01 * number**2]
        record["result"]["block_costs"] = [1.0 + number]
    rows = tables.correlation(study, by_fingerprint(found)).rows
    assert [row[0] for row in rows] == ["all of 20 moons examples", "tiny"]
    assert rows[0][1:] == ("10", "-1.00 [-1.00, -1.00]", "< 0.001")
    few = tables.correlation(study, by_fingerprint(found[:6])).rows
    assert few[0][1:] == ("3", "too few to conclude", "–")


def test_report_files(tmp_path):
    study, found = synthetic()
    path = tmp_path / "tiny-small.jsonl"
    for record in found:
        records.append(path, record)
    before = path.read_bytes()
    drawn = (figures.accuracies, figures.training, figures.cost_against_accuracy)
    written = report.write_report(study, path, make_figures=drawn)
    assert len(written) == 8
    for file in written:
        start = file.read_bytes()[:200]
        assert file.parent == tmp_path
        assert (b"PNG" in start) == (file.suffix == ".png")
        assert (b"<?xml" in start) == (file.suffix == ".svg")
    assert path.read_bytes() == before
    markdown = (tmp_path / "tiny-small.md").read_text()
    assert f"| tiny | {METHOD} | 10 |" in markdown
    assert "From the 20 runs in `tiny-small.jsonl`" in markdown
    with (tmp_path / "tiny-small.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows[1]["λ"] == "4"
    with pytest.raises(FileNotFoundError, match="Run the study first"):
        report.write_report(study, tmp_path / "other.jsonl")


def test_a_table_without_rows_is_left_out(tmp_path):
    study = tiny_study()
    path = tmp_path / "tiny.jsonl"
    path.touch()
    texts = report.build_texts(study, path, (tables.comparison, rivals.rivals))
    assert list(texts) == ["tiny.md", "tiny.csv"]
    assert "Rivals" not in texts["tiny.md"]


def test_figures_of_states_and_depth():
    blocks = Network("dense_resnet", 4, 2)
    study = tiny_study(network=blocks, seeds=range(2))
    setting = study.settings[0]
    found = {}
    kept = {"labels": [0, 1], "positions": np.zeros((3, 2, 2)).tolist()}
    for run in study.runs():
        record = fake_record(run, {**fake_result([0.5]), "states": kept})
        found[run.fingerprint()] = record
    drawn = figures.states(study, found)
    assert len(drawn.axes) == 2 * 3  # two methods, three states
    lines = figures.depth(study, found).axes[0].get_lines()
    assert {tuple(line.get_xdata()) for line in lines} >= {
        (setting.network.num_blocks,)
    }


@pytest.mark.parametrize("draw", [figures.accuracies, figures.depth])
def test_axes_end_where_percentages_do(draw):
    study = tiny_study(seeds=range(2))
    found = {}
    for run in study.runs():
        # Of two such runs the interval goes from -326 to 436 percent.
        record = fake_record(run, fake_result([0.25 + 0.6 * run.seed]))
        found[run.fingerprint()] = record
    for axis in draw(study, found).axes:
        low, high = axis.get_ylim()
        assert -5 < low <= 0 < 100 <= high < 105


def test_many_methods_are_told_apart_and_stay_at_their_setting():
    plain = Method("plain")
    many = [least_action(start) for start in range(1, 13)]
    study = tiny_study(methods=(plain, *many))
    two = dataclasses.replace(study.settings[0], label="another")
    study = dataclasses.replace(study, settings=(*study.settings, two))
    found = {
        run.fingerprint(): fake_record(run, fake_result([0.5])) for run in study.runs()
    }
    lines = [each[0] for each in figures.accuracies(study, found).axes[0].containers]
    looks = {(line.get_color(), line.get_marker()) for line in lines}
    assert len(looks) == len(lines) == 13
    assert all(abs(line.get_xdata() - [0, 1]).max() < 0.5 for line in lines)


def test_methods_keep_their_colours():
    plain, least, other = Method("plain"), least_action(0.5), least_action(50.0)
    orders = ([plain, least, other], [least, plain], [least], [plain])
    for methods in orders:
        study = tiny_study(seeds=range(2), methods=tuple(methods))
        found = {
            run.fingerprint(): fake_record(run, fake_result([0.5, 0.6]))
            for run in study.runs()
        }
        lines = [
            *figures.training(study, found).axes[0].get_lines(),
            *(each[0] for each in figures.depth(study, found).axes[0].containers),
        ]
        colors = [line.get_color() for line in lines]
        for method, *drawn in zip(methods, *np.split(np.array(colors), 2), strict=True):
            known = {plain: "#D55E00", least: "#0072B2"}
            if method in known:
                assert drawn == [known[method]] * 2


@pytest.mark.parametrize("result_file", DRAWN, ids=lambda path: path.stem)
def test_nothing_is_cut_off(result_file):
    """Legend and labels lie within the picture, and leave most of it to the axes."""
    module, preset = script_of(result_file)
    study = module.PRESETS[preset]
    found = by_fingerprint(records.read(result_file))
    figure = figures.accuracies(study, found)
    canvas = importlib.import_module("matplotlib.backends.backend_agg")
    canvas.FigureCanvasAgg(figure).draw()
    drawn = [*figure.legends, *figure.axes[0].get_xticklabels(), figure.axes[0].yaxis]
    for each in drawn:
        box = each.get_tightbbox(figure.canvas.get_renderer())
        assert box.x0 >= -1, each
        assert box.y0 >= -1, each
        assert box.x1 <= figure.bbox.width + 1, each
        assert box.y1 <= figure.bbox.height + 1, each
    assert figure.axes[0].get_position().height > 0.5


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_scripts_declare_their_presets(script):
    presets = importlib.import_module(f"studies.paper.{script.stem}").PRESETS
    # What is not in the authors' protocol is not called so.
    full = "full" if script.stem in OURS else "paper"
    assert set(presets) - {"protocol", "gpu", "fresh"} == {full, "small"}
    for study in presets.values():
        assert study.name == script.stem
        runs = list(study.runs())
        assert len({run.fingerprint() for run in runs}) == len(runs)
        assert "auto" in str(runs) or all(
            (run.method.initial_multiplier or 1) > 0 for run in runs
        )


@pytest.mark.parametrize("result_file", RESULTS, ids=lambda path: path.stem)
def test_published_tables_are_those_of_the_results(result_file):
    module, preset = script_of(result_file)
    make_tables = getattr(module, "TABLES", (tables.comparison,))
    reference = getattr(module, "REFERENCE", None)
    reference = reference or report.reference_of(module.PRESETS, preset)
    study = module.PRESETS[preset]
    texts = report.build_texts(study, result_file, make_tables, reference)
    assert any("## What differs from " in text for text in texts.values())
    for name, text in texts.items():
        assert result_file.with_name(name).read_text(encoding="utf-8") == text
    assert result_file.stat().st_size < 1_000_000


def test_the_help_says_all(capsys):
    presets = {"small": tiny_study(), "paper": tiny_study()}
    with pytest.raises(SystemExit):
        command_line.main(presets, arguments=["--help"])
    text = capsys.readouterr().out
    options = re.split(r"\n  (?=-)", text)[2:]  # after the usage, and --help
    assert len(options) == 5
    for option in options:
        told = re.sub(r"\s+", " ", option)
        assert re.search(r"\w.* \(default: .+\)", told), option
    folder = str(ROOT / "studies" / "results")
    assert re.sub(r"\s", "", folder) in re.sub(r"\s", "", text)


def test_the_report_finds_the_committed_results_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(report, "write_report", lambda study, path, *made: [path])
    read = []
    monkeypatch.setattr("builtins.print", read.append)
    module = importlib.import_module("studies.paper.automatic")
    command_line.main(module.PRESETS, arguments=["--report"])
    assert read == [ROOT / "studies" / "results" / "automatic-small.jsonl"]
    assert not list(tmp_path.iterdir())


def test_a_script_from_nothing_to_its_report(tmp_path, capsys):
    presets = {"small": tiny_study(), "paper": tiny_study()}
    command_line.main(presets, arguments=["--results", str(tmp_path)])
    path = tmp_path / "tiny-small.jsonl"
    assert len(records.read(path)) == 4
    table = path.with_suffix(".md")
    text = table.read_text()
    table.unlink()
    command_line.main(presets, arguments=["--report", "--results", str(tmp_path)])
    assert table.read_text() == text
    assert str(table) in capsys.readouterr().out
