"""What ends the build of the site: docs/hooks, on pages and tutorials made up here."""

from __future__ import annotations

import importlib.util
import json
import types
from pathlib import Path

import keras
import pytest

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="says the same on every backend"
)

HOOKS = Path(__file__).parents[2] / "docs" / "hooks"
GOOD = """<title>Home</title><link rel="canonical" href="https://example.org/">
<h1>Home</h1><a href="https://example.org/"></a><img src="a.png" alt="What is seen">"""


def hook(name):
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location(f"hook_{name}", HOOKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def page(url):
    file = types.SimpleNamespace(src_uri=f"{url}.md")
    return types.SimpleNamespace(url=url, file=file)


def test_a_page_that_is_right():
    checks = hook("checks")
    assert checks.on_post_page(GOOD, page("home"), None) == GOOD


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('alt="What is seen"', "", "a.png has no alt text"),
        ('alt="What is seen"', 'alt=" "', "a.png has no alt text"),
        ("<h1>Home</h1>", "", "0 headings"),
        ("<h1>Home</h1>", "<h1>A</h1><h1>B</h1>", "2 headings"),
        ('src="a.png"', 'src="https://cdn.org/a.png"', "loads https://cdn.org/a.png"),
        ("<h1>", '<script src="//cdn.org/a.js"></script><h1>', "loads //cdn.org/a.js"),
        ("canonical", "stylesheet", "loads https://example.org/"),
    ],
)
def test_a_page_that_is_not(before, after, message):
    checks = hook("checks")
    with pytest.raises(checks.PluginError, match=f"home.md: .*{message}"):
        checks.on_post_page(GOOD.replace(before, after), page("home"), None)


def test_two_pages_of_one_title():
    checks = hook("checks")
    checks.on_post_page(GOOD, page("home"), None)
    with pytest.raises(checks.PluginError, match="another page has its title, 'Home'"):
        checks.on_post_page(GOOD, page("other"), None)
    checks.on_pre_build(None)
    checks.on_post_page(GOOD, page("other"), None)


def test_a_page_that_the_search_does_not_know(tmp_path):
    checks = hook("checks")
    config = types.SimpleNamespace(site_dir=str(tmp_path))
    (tmp_path / "search").mkdir()
    index = tmp_path / "search" / "search_index.json"
    checks.on_post_page(GOOD, page("home"), None)
    index.write_text('{"docs": [{"location": "home"}, {"location": "home#use"}]}')
    checks.on_post_build(config)
    index.write_text('{"docs": [{"location": "home#use"}]}')
    with pytest.raises(checks.PluginError, match=r"\['home'\]"):
        checks.on_post_build(config)


TUTORIAL = """# %% [markdown]
# # Counting
#
# ![One, drawn](out/one.png)

# %%
from pathlib import Path

Path("out").mkdir(exist_ok=True)
Path("out/one.png").write_bytes(b"one")
print("seen", 1)

# %%
import sys

print("a warning", file=sys.stderr)
1 + 1
"""


@pytest.fixture
def clone(tmp_path):
    """Builds the tutorials of a clone that has one."""
    base = pytest.importorskip("mkdocs.config.base")
    structure = pytest.importorskip("mkdocs.structure.files")
    for folder in ("docs", "examples/tutorials", "keras_lap", "studies/results"):
        (tmp_path / folder).mkdir(parents=True)
    lines = f"site_name: clone\nhooks: [{HOOKS / 'tutorials.py'}]\n"
    (tmp_path / "mkdocs.yml").write_text(lines)
    config = base.load_config(str(tmp_path / "mkdocs.yml"))

    class Clone:
        script = tmp_path / "examples" / "tutorials" / "counting.py"
        error = pytest.importorskip("mkdocs.exceptions").PluginError
        root = tmp_path

        def build(self):
            files = config.plugins.on_files(structure.Files([]), config=config)
            return {file.src_uri: file for file in files}

        def runs(self):
            kept = self.root / "build" / "tutorials" / "counting" / "notebook.ipynb"
            return kept.stat().st_mtime_ns

    clone = Clone()
    clone.script.write_text(TUTORIAL)
    return clone


def test_a_tutorial_becomes_a_page_and_runs_again_only_when_it_must(clone):
    files = clone.build()
    page = files["tutorials/counting.md"].content_string
    offer = "[Notebook](counting.ipynb){ download=counting.ipynb } · "
    offer += "[script](counting.py){ download=counting.py }"
    picture = "![One, drawn](out/one.png)"
    assert page.startswith(f"# Counting\n\n{offer}\n\n{picture}\n\n```python\n")
    assert "\nseen 1\n" in page
    assert "\n2\n" in page
    assert "a warning\n" not in page.replace('print("a warning', "")
    assert files["tutorials/counting.py"].content_string == TUTORIAL
    assert files["tutorials/out/one.png"].content_bytes == b"one"
    offered = json.loads(files["tutorials/counting.ipynb"].content_string)
    assert (offered["nbformat"], offered["metadata"]["kernelspec"]["name"]) == (
        4,
        "python3",
    )
    cells = [(cell["cell_type"], "".join(cell["source"])) for cell in offered["cells"]]
    assert [kind for kind, _ in cells] == ["markdown", "code", "code"]
    assert cells[0][1].startswith("# Counting\n")
    assert cells[2][1].endswith("1 + 1")
    assert all(cell["outputs"] == [] for cell in offered["cells"][1:])
    first = clone.runs()
    assert clone.build()["tutorials/counting.md"].content_string == page
    assert clone.runs() == first
    (clone.root / "keras_lap" / "model.py").write_text("changed = True")
    clone.build()
    second = clone.runs()
    assert second > first
    clone.script.write_text(TUTORIAL.replace("1 + 1", "1 + 2"))
    assert "\n3\n" in clone.build()["tutorials/counting.md"].content_string
    assert clone.runs() > second


def test_what_a_tutorial_prints_fits_its_box(clone):
    clone.script.write_text(TUTORIAL.replace("1 + 1", "print('word ' * 40)"))
    page = clone.build()["tutorials/counting.md"].content_string
    lines = page.partition("print('word ' * 40)\n```\n\n")[2].partition("\n```\n")[0]
    assert lines.startswith("``` { .text .no-copy .output }\nword word")
    assert lines.split().count("word") == 40
    assert max(map(len, lines.splitlines())) <= 86
    clone.script.write_text(TUTORIAL.replace("1 + 1", "print('a   ' * 30)"))
    page = clone.build()["tutorials/counting.md"].content_string
    table = ("a   " * 30).rstrip()
    assert f"``` {{ .text .no-copy .output .small }}\n{table}\n```" in page


def test_a_tutorial_that_fails_ends_the_build_every_time(clone):
    clone.script.write_text(TUTORIAL.replace("1 + 1", "1 / 0"))
    for _ in range(2):
        with pytest.raises(
            clone.error, match=r"counting\.py: (?s:.*)ZeroDivisionError"
        ):
            clone.build()


def test_a_picture_that_is_not_drawn_ends_the_build(clone):
    clone.script.write_text(TUTORIAL.replace("(out/one.png)", "(out/two.png)"))
    with pytest.raises(clone.error, match=r"shows out/two\.png and does not draw it"):
        clone.build()


def test_the_results_of_the_studies_have_their_page(tmp_path):
    hook("results")
    base = pytest.importorskip("mkdocs.config.base")
    structure = pytest.importorskip("mkdocs.structure.files")
    for folder in ("docs", "studies/results"):
        (tmp_path / folder).mkdir(parents=True)
    results = tmp_path / "studies" / "results"
    (results / "README.md").write_text("[cost](../../benchmarks/README.md) ![a](a.png)")
    (results / "a.png").write_bytes(b"one")
    (tmp_path / "CHANGELOG.md").write_text("# Changes\n\n[loops](docs/loops.md)\n")
    lines = f"site_name: clone\nhooks: [{HOOKS / 'results.py'}]\n"
    (tmp_path / "mkdocs.yml").write_text(lines)
    config = base.load_config(str(tmp_path / "mkdocs.yml"))
    files = config.plugins.on_files(structure.Files([]), config=config)
    found = {file.src_uri: file for file in files}
    assert sorted(found) == ["changelog.md", "results/README.md", "results/a.png"]
    assert "](loops.md)" in found["changelog.md"].content_string
    assert found["results/README.md"].url == "results/"
    assert found["results/a.png"].content_bytes == b"one"
    shown = {"page": types.SimpleNamespace(file=found["results/README.md"])}
    text = config.plugins.on_page_markdown(
        found["results/README.md"].content_string, **shown, config=config, files=files
    )
    assert text == "[cost](../benchmarks.md) ![a](a.png)"
    shown = {"page": types.SimpleNamespace(file=types.SimpleNamespace(src_uri="a.md"))}
    link = "[cost](../../benchmarks/README.md)"
    text = config.plugins.on_page_markdown(link, **shown, config=config, files=files)
    assert text == link


def test_the_browser_looks_at_what_is_named_or_says_so():
    browser, there = hook("browser"), ["", "results", "api/model"]
    assert browser.chosen([], there) == there
    assert browser.chosen(["api/model", "home"], there) == ["api/model", ""]
    with pytest.raises(ValueError, match=r"Received: reslts\. There are home, results"):
        browser.chosen(["results", "reslts"], there)


def test_what_the_browser_found_is_read_by_frames():
    browser = hook("browser")
    window = '<script id="desktop-light">["a &amp;lt; b", "wide"]</script>'
    window += '<script id="phone-dark">[]</script>'
    found = browser.faults_of(window)
    assert found.pop("desktop-light") == ["a &lt; b", "wide"]
    assert found.pop("phone-dark") == []
    late = ["did not finish"]
    assert found == {"desktop-dark": late, "phone-light": late}
