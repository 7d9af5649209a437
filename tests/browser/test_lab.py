"""JupyterLab in a real browser: a tutorial runs, `explore` answers to clicks.

    make test-browser

The server is started as `make lab` does, on a copy of the tutorials. Nothing
waits for a time, all for a condition; limits are for a busy machine. What was
on the screen is in `outputs/browser`.
"""

import contextlib
import os
import pathlib
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import keras
import nbformat
import pytest
from helpers import environment

for needed in ("jupyterlab", "ipywidgets", "matplotlib", "sklearn"):
    pytest.importorskip(needed)
playwright = pytest.importorskip(
    "playwright.sync_api",
    reason="playwright is not installed: make test-browser installs it",
)

ROOT = pathlib.Path(__file__).parents[2]
SCREEN = ROOT / "outputs" / "browser"
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser"))),
    shutil.which("google-chrome"),
)
MINUTE = 60_000  # as the browser counts, in milliseconds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.timeout(3 * 3600),
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="Chromium is not installed (on Debian: apt install chromium)",
    ),
]

# Six patches by ten of a photograph, in two blocks with four heads.
EXPLORE = """
import keras
from sklearn.datasets import load_sample_image

import keras_vit

keras.utils.set_random_seed(0)
image = load_sample_image("china.jpg")[:384]
variant = keras_vit.Variant(2, 32, 64, 4, patch_size=64)
model = keras_vit.ViT(variant, image_size=(384, 640))
keras_vit.explore(model, image)
"""
ROWS, COLUMNS = 6, 10


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The address of a JupyterLab, and the folder that it shows."""
    home = tmp_path_factory.mktemp("home")
    folder = home / "tutorials"
    shutil.copytree(
        ROOT / "tutorials",
        folder,
        ignore=shutil.ignore_patterns("outputs", "*.keras", ".ipynb_*"),
    )
    # It asks whether to show news, over whatever is there.
    settings = home / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    file = settings / "notification.jupyterlab-settings"
    file.write_text(
        '{"fetchNews": "false", "checkForUpdates": false}', encoding="utf-8"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    token = secrets.token_hex(16)
    command = [sys.executable, "-m", "jupyterlab", f"--notebook-dir={folder}"]
    command += ["--no-browser", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0"]
    command += ["--LabApp.expose_app_in_browser=True"]
    if os.name == "posix" and os.geteuid() == 0:
        command += ["--allow-root"]
    with (home / "server.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(
            command,
            cwd=home,
            stdout=log,
            stderr=log,
            env=environment(
                keras.backend.backend(),
                JUPYTER_TOKEN=token,
                JUPYTER_CONFIG_DIR=str(home / "config"),
                JUPYTER_DATA_DIR=str(home / "data"),
                JUPYTER_RUNTIME_DIR=str(home / "runtime"),
                JUPYTERLAB_SETTINGS_DIR=str(home / "settings"),
                JUPYTERLAB_WORKSPACES_DIR=str(home / "workspaces"),
                IPYTHONDIR=str(home / "ipython"),
            ),
        )
    try:
        wait_for_server(server, f"http://127.0.0.1:{port}/api", home)
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token={token}", folder
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for_server(server, address, home):
    end = time.monotonic() + 1200
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(urllib.error.URLError):
            urllib.request.urlopen(address, timeout=10).close()
            return
        time.sleep(0.5)
    pytest.fail(f"no server:\n{(home / 'server.log').read_text('utf-8')}")


@pytest.fixture
def page():
    """A window in which no script may fail."""
    SCREEN.mkdir(parents=True, exist_ok=True)
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(
            executable_path=CHROMIUM,
            # Chromium refuses its sandbox to root, as in containers.
            args=["--no-sandbox"],
            timeout=20 * MINUTE,
        )
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        page.set_default_timeout(20 * MINUTE)
        playwright.expect.set_options(timeout=20 * MINUTE)
        failures = []
        page.on("pageerror", lambda error: failures.append(error.stack))
        try:
            yield page
        finally:
            page.screenshot(path=SCREEN / "last.png")
            browser.close()
    assert failures == []


def run_all(page, lab, name):
    """Opens a notebook, clears it, runs it; returns its cells."""
    address, _ = lab
    page.goto(address.format(name))
    # JupyterLab opens again what another page had open, which may come first.
    page.wait_for_function(
        """name => {
            const panel = window.jupyterapp?.shell.currentWidget;
            return panel?.context?.path === name
                && panel.context.isReady && panel.content?.widgets.length
                && panel.sessionContext.session?.kernel?.status === "idle";
        }""",
        arg=name,
    )
    page.evaluate(
        """async () => {
            const commands = window.jupyterapp.commands;
            await commands.execute("notebook:clear-all-cell-outputs");
            window.finished = null;
            commands.execute("notebook:run-all-cells").then(
                success => { window.finished = success; },
                error => { window.finished = String(error); }
            );
        }"""
    )
    page.wait_for_function(
        "() => window.finished !== null", timeout=90 * MINUTE
    )
    assert page.evaluate("() => window.finished") is True
    cells = page.evaluate(
        """() => window.jupyterapp.shell.currentWidget.content.widgets.map(
            cell => cell.model.toJSON())"""
    )
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    counts = [cell["execution_count"] for cell in code]
    assert counts == list(range(1, len(code) + 1))
    kinds = [o["output_type"] for cell in code for o in cell["outputs"]]
    assert kinds and "error" not in kinds
    return cells


def test_tutorial_runs_and_shows_its_figures(page, lab):
    _, folder = lab
    name = min(path.name for path in folder.glob("*.ipynb"))
    cells = run_all(page, lab, name)
    figures = {
        index: sum("image/png" in o.get("data", ()) for o in cell["outputs"])
        for index, cell in enumerate(cells)
        if cell["cell_type"] == "code"
    }
    assert sum(figures.values()) >= 3
    for index, count in figures.items():
        if not count:
            continue
        # Cells that are out of sight are not in the page.
        page.evaluate(
            """index => window.jupyterapp.shell.currentWidget.content
                .scrollToItem(index, "end")""",
            index,
        )
        page.wait_for_function(
            """([index, count]) => {
                const content = window.jupyterapp.shell.currentWidget.content;
                const images = [...content.widgets[index].node
                    .querySelectorAll(".jp-OutputArea-output img")];
                return images.length === count && images.every(image => {
                    const box = image.getBoundingClientRect();
                    return image.complete && image.naturalWidth > 0
                        && box.width > 0 && box.height > 0
                        && box.top < innerHeight && box.bottom > 0;
                });
            }""",
            arg=[index, count],
        )
        page.screenshot(path=SCREEN / f"tutorial_{index:02}.png")


def test_explore_answers_to_clicks(page, lab):
    _, folder = lab
    notebook = nbformat.v4.new_notebook()
    # Without a kernel of its own JupyterLab would ask which one to start.
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python"}
    notebook.cells = [nbformat.v4.new_code_cell(EXPLORE.strip())]
    nbformat.write(notebook, folder / "explore.ipynb")
    run_all(page, lab, "explore.ipynb")
    view = page.locator(".jp-OutputArea-output .widget-vbox").first
    view.wait_for()
    image, attention = view.locator("img").all()
    for picture in (image, attention):
        wait_until_drawn(page, picture)
    playwright.expect(view).to_contain_text("class token: ")
    page.screenshot(path=SCREEN / "explore_class_token.png")

    # Each button lies on its patch.
    frame = image.bounding_box()
    height, width = frame["height"] / ROWS, frame["width"] / COLUMNS
    for row, column in ((0, 0), (2, 7), (ROWS - 1, COLUMNS - 1)):
        button = patch(view, row, column).bounding_box()
        expected = {
            "x": frame["x"] + column * width,
            "y": frame["y"] + row * height,
            "width": width,
            "height": height,
        }
        assert button == pytest.approx(expected, abs=1.0)

    with changed(page, image, attention):
        patch(view, 2, 7).click()
    playwright.expect(view).to_contain_text("patch (2, 7): ")
    page.screenshot(path=SCREEN / "explore_patch.png")
    block, head = view.locator("select").all()
    with changed(page, attention):
        block.select_option("block_00")
    with changed(page, attention):
        head.select_option("3")
    playwright.expect(view).to_contain_text("patch (2, 7): ")
    page.screenshot(path=SCREEN / "explore_block_and_head.png")
    with changed(page, image, attention):
        view.get_by_role("button", name="class token").click()
    playwright.expect(view).to_contain_text("class token: ")


def patch(view, row, column):
    return view.get_by_title(f"patch ({row}, {column})", exact=True)


def wait_until_drawn(page, picture):
    page.wait_for_function(
        "image => image.complete && image.naturalWidth > 0",
        arg=picture.element_handle(),
    )


@contextlib.contextmanager
def changed(page, *pictures):
    """Pictures are others after what happens inside than before."""
    before = [(p.get_attribute("src"), p.screenshot()) for p in pictures]
    yield
    for picture, (source, pixels) in zip(pictures, before):
        page.wait_for_function(
            "([image, source]) => image.src !== source",
            arg=[picture.element_handle(), source],
        )
        wait_until_drawn(page, picture)
        assert picture.screenshot() != pixels
