"""The viewer: pixels and layers at their positions, only the slide is served, and a real browser shows it."""

import http.client
import json
import shutil
import signal
import subprocess
import sys
import threading
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from urllib.parse import quote, urlsplit

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile

from mcti.errors import DataError
from mcti.params import ExtractParams
from mcti.slides import features, heatmap, probe
from mcti.slides.heatmap import Scores
from mcti.slides.hed44 import Hed44Encoder
from mcti.slides.manifest import SlideRow
from mcti.slides.tissue import Overview
from mcti.slides.viewer.scene import Scene
from mcti.slides.viewer.server import Server
from tests.polling import LIMIT_MS

from ..conftest import extract_one, texture, write_tiff

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
SECRET = "PATIENT NAME ON THE LABEL"


@pytest.fixture
def slide(tmp_path):
    """700 x 500 px at 0.5 µm/px, two levels, and a label with a name on it."""
    path, picture = tmp_path / "Präparat 1.svs", texture(500, 700)
    options = {"tile": (64, 64), "photometric": "rgb", "compression": "zlib", "metadata": None}
    with tifffile.TiffWriter(path) as writer:
        writer.write(picture, description="Aperio Image\r\n|AppMag = 20|MPP = 0.5", **options)
        small = cv2.resize(picture, (350, 250), interpolation=cv2.INTER_AREA)
        writer.write(small, description="Aperio Image\r\n", subfiletype=1, **options)
        writer.write(texture(80, 90, seed=5), description=f"Aperio\r\nlabel 90x80 {SECRET}", metadata=None)
    return path, picture


@pytest.fixture
def scene(slide):
    path, _ = slide
    info = probe.examine(path)
    mask = np.zeros((50, 70), bool)
    mask[:25] = True
    coords = np.array([[0, 0], [100, 0], [600, 400]])
    scores = Scores("risk", coords, np.array([-1.0, 0.0, 1.0]), (100, 100), centre=0.0)
    view = Overview(np.full((50, 70, 3), 200, np.uint8), np.zeros((50, 70), bool), (10.0, 10.0))
    with probe.open_reader(path, info.reader) as reader:
        yield Scene(reader, info, path.stem, mask=(mask, view), grid=(coords, (100, 100)), scores=scores)


@pytest.fixture
def server(scene):
    with Server(scene) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def get(server, name, *, raw=False, host=None):
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=120)
    connection.putrequest("GET", name if raw else parts.path + name, skip_host=True)
    connection.putheader("Host", host or parts.netloc)
    connection.endheaders()
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def picture_at(server, name):
    answer, body = get(server, name)
    assert answer.status == 200, name
    read = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.dstack([read[:, :, 2::-1], read[:, :, 3:]]) if read.shape[2] == 4 else read[:, :, ::-1]


def test_joined_deep_zoom_tiles_are_the_slide(server, slide):
    """Oracle: the picture that was written; JPEG of quality 88 changes a smooth one by a few grey levels."""
    _, picture = slide
    document = ElementTree.fromstring(get(server, "slide.dzi")[1])
    size = document[0].attrib
    assert (int(size["Width"]), int(size["Height"]), document.attrib["TileSize"]) == (700, 500, "256")
    rows = [[picture_at(server, f"slide_files/10/{x}_{y}.jpeg") for x in range(3)] for y in range(2)]
    whole = np.concatenate([np.concatenate(row, axis=1) for row in rows])
    assert whole.shape == picture.shape
    assert np.abs(whole.astype(int) - picture).mean() < 2
    half = picture_at(server, "slide_files/9/0_0.jpeg").astype(int)
    assert np.abs(half - cv2.resize(picture, (350, 250), interpolation=cv2.INTER_AREA)[:250, :256]).mean() < 4
    assert picture_at(server, "slide_files/0/0_0.jpeg").shape == (1, 1, 3)


def test_layers_are_aligned_with_the_slide(server, scene):
    full = picture_at(server, "scores_files/10/0_0.png")
    blue, white = scene.scores.palette()[0], scene.scores.palette()[128]
    assert (full[50, 50], full[50, 150], full[50, 220]) == (
        pytest.approx([*blue, 255]),
        pytest.approx([*white, 255], abs=1),
        pytest.approx([0, 0, 0, 0]),
    )
    corner = picture_at(server, "scores_files/10/2_1.png")  # starts at 512, 256
    assert corner[200, 150].tolist() == [*scene.scores.palette()[-1], 255]
    tissue = picture_at(server, "tissue_files/9/0_0.png")[:, :, 3]
    assert tissue[50, 100] == 40
    assert tissue[200, 100] == 0
    assert abs(np.flatnonzero(tissue[:, 100] == 0)[0] - 125) <= 3  # half of row 250, the mask's pixels are 10 wide
    outline = picture_at(server, "tiles_files/10/0_0.png")[:, :, 3]
    assert outline[50, 0] > 0
    assert outline[50, 50] == 0


def test_the_tile_under_the_pointer_is_returned_with_its_score(server):
    assert json.loads(get(server, "tile.json?x=650&y=450")[1]) == {"x": 600, "y": 400, "score": 1.0}
    assert json.loads(get(server, "tile.json?x=300&y=300")[1]) is None
    for query in ("x=a&y=1", "x=1", "", "x=nan&y=nan"):
        assert get(server, f"tile.json?{query}")[0].status in (200, 404)


def test_only_the_slide_is_served(server, slide):
    path, _ = slide
    (path.parent / "secret.txt").write_text("secret")
    word = urlsplit(server.url).path.strip("/")
    traversals = (
        "../secret.txt",
        "..%2fsecret.txt",
        "%2e%2e/secret.txt",
        "//etc/passwd",
        "slide_files/10/../../secret.txt",
    )
    not_names = (
        "vendor/openseadragon.min.js",
        "page.html",
        "label.dzi",
        "macro.dzi",
        "label_files/0/0_0.jpeg",
        "scene.json/",
    )
    not_tiles = ("10/0_0.png", "11/0_0.jpeg", "10/3_0.jpeg", "-1/0_0.jpeg", "10/9999999_0.jpeg", "10/%D9%A3_0.jpeg")
    hostile = [*traversals, *not_names, *(f"slide_files/{name}" for name in not_tiles), "scores_files/10/0_0.jpeg"]
    for name in hostile:
        assert get(server, name)[0].status == 404, name
    for address in ("/", "/scene.json", f"/{word}", f"/{word}x/", f"/x{word}/scene.json", quote(str(path))):
        assert get(server, address, raw=True)[0].status == 404
    served = [get(server, name)[1] for name in ("", "scene.json", "slide.dzi", "page.js", "page.css")]
    assert not any(SECRET.encode() in body for body in served)


def test_pages_of_other_hosts_cannot_read_it(server):
    """A Host name that resolves to 127.0.0.1 is refused, and the page may load nothing from outside."""
    assert get(server, "scene.json", host="evil.example")[0].status == 403
    answer, page = get(server, "")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert b"//" not in page.replace(b"<!doctype html>", b"")
    assert server.server_address[0] == "127.0.0.1"


def test_a_region_that_does_not_decode_is_grey_with_a_cross(tmp_path):
    path = write_tiff(tmp_path / "a.tif", texture(128, 128), compression="zlib")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        offset, count = file.pages[0].dataoffsets[0], file.pages[0].databytecounts[0]
    data[offset : offset + count] = bytes(count)
    path.write_bytes(data)
    info = probe.examine(path)
    with probe.open_reader(path, info.reader) as reader:
        scene = Scene(reader, info, "a")
        picture = scene.slide(scene.box(7, 0, 0))
    assert picture.max() <= 150


def test_a_large_slide_of_one_level_is_not_decoded_for_each_overview_tile(tmp_path, monkeypatch):
    path = write_tiff(tmp_path / "a.tif", texture(4096, 4096), tile=(256, 256))
    info = probe.examine(path)
    with probe.open_reader(path, info.reader) as reader:
        scene, largest = Scene(reader, info, "a"), []
        read = reader.read
        monkeypatch.setattr(
            reader, "read", lambda *box, **options: largest.append(box[3] * box[4]) or read(*box, **options)
        )
        small = scene.slide(scene.box(8, 0, 0))
    assert small.shape == (256, 256, 3)
    assert max(largest) <= 2048 * 1024
    want = cv2.resize(texture(4096, 4096), (256, 256), interpolation=cv2.INTER_AREA)
    assert np.abs(small.astype(int) - want).mean() < 2


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_pans_and_zooms_a_slide_with_its_layers(painted, tmp_path):
    """The command in a separate process, opened with Chromium and stopped with Ctrl-C."""
    from playwright.sync_api import sync_playwright

    extract_one(SlideRow("P", "P1", str(painted)), ExtractParams(), Hed44Encoder(), tmp_path)
    numbers, coords = features.read(tmp_path / "P1.h5")
    table = pd.DataFrame({"x": coords[:, 0], "y": coords[:, 1], "score": numbers[:, 0] - numbers[:, 0].mean()})
    table.to_csv(tmp_path / "scores.csv", index=False)
    command = [str(Path(sys.executable).with_name("mcti")), "view", str(painted), "--features", str(tmp_path / "P1.h5")]
    command += ["--scores", str(tmp_path / "scores.csv"), "--centre", "0", "--no-browser", "--json"]
    # Processes started by a background shell ignore Ctrl-C, and their children inherit that.
    heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heeds)
    try:
        url = running.stderr.readline().split()[1]
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"], timeout=LIMIT_MS)
            tab, messages, hosts = browser.new_page(viewport={"width": 1200, "height": 800}), [], set()
            tab.set_default_timeout(LIMIT_MS)
            tab.on("console", lambda message: messages.append(message.text))
            tab.on("pageerror", lambda error: messages.append(str(error)))
            tab.on("request", lambda request: hosts.add(urlsplit(request.url).netloc))
            tab.goto(url)
            whole = "every(i => viewer.world.getItemAt(i).getFullyLoaded())"
            loaded = f"() => window.viewer && viewer.world.getItemCount() === 4 && %s.{whole}"
            tab.wait_for_function(loaded % "[0, 1, 3]")
            before = tab.evaluate("() => viewer.viewport.getZoom(true)")
            tab.keyboard.press("+")  # before any click
            tab.wait_for_function("before => viewer.viewport.getZoom(true) > 1.05 * before", arg=before)
            tab.locator("#show-tiles").check()
            tab.mouse.move(700, 400)
            before = tab.evaluate("() => viewer.viewport.getZoom(true)")
            tab.mouse.wheel(0, -600)
            tab.wait_for_function("before => viewer.viewport.getZoom(true) > 1.1 * before", arg=before)
            middle = tab.evaluate("() => viewer.viewport.getCenter(true).x")
            tab.mouse.down()
            tab.mouse.move(500, 400, steps=5)
            tab.mouse.up()
            tab.wait_for_function("x => viewer.viewport.getCenter(true).x > x", arg=middle)
            tab.wait_for_function(loaded % "[0, 1, 2, 3]")
            tab.mouse.move(702, 402)
            tab.wait_for_function("() => document.getElementById('pointer').textContent.includes('score')")
            shot = cv2.imdecode(np.frombuffer(tab.screenshot(), np.uint8), cv2.IMREAD_COLOR)
            texts = [tab.locator(f"#{name}").inner_text() for name in ("name", "bar-text", "low")]
            browser.close()
        running.send_signal(signal.SIGINT)
        output, _ = running.communicate(timeout=600)
    finally:
        running.kill()
    assert messages == []
    assert hosts == {urlsplit(url).netloc}
    assert texts[0] == "P1"
    assert texts[1].endswith("µm")
    assert float(texts[2]) < 0
    assert len(np.unique(shot[:, 400:].reshape(-1, 3), axis=0)) > 5000  # a picture, not a page
    assert running.returncode == 0
    assert json.loads(output) == {"slide": "P1", "layers": ["tissue", "tiles", "scores"]}


def test_invalid_scores_are_refused_with_their_row(painted, tmp_path):
    extract_one(SlideRow("P", "P1", str(painted)), ExtractParams(), Hed44Encoder(), tmp_path)
    from mcti.slides import exchange

    bag = exchange.from_store(tmp_path / "P1.h5")
    x, y = bag.coords[0].tolist()
    for text, match in (
        ("x,y\n1,2\n", "'score' is missing"),
        ("", "not a CSV table"),
        ("x,y,score\n", "not numeric|no rows"),
        (f"x,y,score\n{x},{y},nan\n{x},{y},1\n", "row 2"),
        (f"x,y,score\n{x},{y},1\n{x},{y},2\n", "two scores"),
        (f"x,y,score\n{x},{y},1\n{x}.5,{y},2\n", "row 3"),
        (f"x,y,score\n{x},{y},a\n", "not numeric"),
    ):
        (tmp_path / "s.csv").write_text(text)
        with pytest.raises(DataError, match=match):
            heatmap.read_scores(tmp_path / "s.csv", bag)
