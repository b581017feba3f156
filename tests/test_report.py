"""The page of a network's results: what is in it, what cannot get out of it, how large it is."""

import csv
import html
import logging
import re
import shutil
import types
from collections import Counter
from html.parser import HTMLParser

import numpy as np
import pytest
from error_sets import content, item, result
from small import Rectangles, SmallConfig, make_find_objects

from mrcnn import report
from mrcnn.data.dataset import Dataset
from mrcnn.evaluation import analysis, coco, contents, detecting
from mrcnn.model import MaskRCNN
from mrcnn.report import examples, history, pictures, quality, svg
from mrcnn.training import results as of_training

HOSTILE = (
    '<script>alert("x")</script>',
    """quotes " ' ` & &amp; id="f" """,
    "$x^{2$ _ \\frac",
    "_under",
    "車 עברית Ω \u202e",
    "line\nbreak",
    "long " * 60,
)
SECTIONS = (
    "scores",
    "data",
    "classes",
    "precision-recall",
    "confusion",
    "errors",
    "calibration",
    "images",
)


class Page(HTMLParser):
    """The elements of a page: ids, links, sources, texts, and what is not closed."""

    VOID = ("meta", "link", "br", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter = Counter()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.addresses += [value] if name in ("src", "href", "xlink:href", "action") else []
            self.handlers += [name] if name.startswith("on") else []

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class Noise(Dataset):
    """Images of noise, 640 x 480, with four rectangles each; noise is hardest to compress."""

    def __init__(self, count: int, names=("a", "b"), size=(480, 640), file_name="{}.png") -> None:
        super().__init__()
        for number, name in enumerate(names, start=1):
            self.add_class("noise", number, name)
        for number in range(count):
            self.add_image("noise", number, file_name.format(number))
        self.size = size
        self.prepare()

    def load_image(self, image_id):
        image = np.random.default_rng(image_id).integers(0, 256, (*self.size, 3), np.uint8)
        image[0, 0] = image_id  # by which `stand_in` knows it
        return image

    def load_mask(self, image_id):
        rng = np.random.default_rng(image_id)
        masks = np.zeros((*self.size, 4), bool)
        for number in range(4):
            y, x = rng.integers(0, np.array(self.size) // 2)
            masks[y : y + self.size[0] // 4, x : x + self.size[1] // 4, number] = True
        return masks, rng.integers(1, self.num_classes, 4).astype(np.int32)


def stand_in(dataset: Dataset, **settings) -> types.SimpleNamespace:
    """Return what the report needs of a network; it finds the objects, shifted, some as others."""
    settings = {"NUM_CLASSES": dataset.num_classes, "CLASS_NAMES": dataset.class_names, **settings}
    config = SmallConfig().replace(DETECTION_MAX_INSTANCES=20, **settings)

    def detect(image):
        image_id = int(image[0, 0, 0])
        rng = np.random.default_rng(image_id)
        masks, class_ids = dataset.load_mask(image_id)
        masks = np.roll(masks, rng.integers(0, 12), axis=1)
        rois = np.array([[*np.argwhere(m).min(0), *(np.argwhere(m).max(0) + 1)] for m in masks.T])
        class_ids = np.where(rng.random(len(class_ids)) < 0.8, class_ids, 1)
        return {
            "rois": rois[:, [1, 0, 3, 2]],
            "class_ids": class_ids,
            "scores": rng.random(len(class_ids)),
            "masks": masks,
        }

    return types.SimpleNamespace(
        config=config,
        run=types.SimpleNamespace(epoch=3),
        detect_dataset=lambda truth, data, progress=iter: detecting.detect_dataset(
            detect, data, truth, max_detections=20, progress=progress
        ),
    )


def finds_nothing(truth, dataset, *, progress):
    del progress
    return detecting.Detected([], dataset.image_ids.tolist(), list(truth.image_ids))


def written(path, dataset, **options) -> tuple[str, Page]:
    report.write(path, stand_in(dataset), dataset, **options)
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def write_results(folder, rows, head) -> None:
    with (folder / of_training.NAME).open("w", newline="") as file:
        csv.writer(file).writerows([head, *rows])


@pytest.fixture(scope="module")
def small_page(tmp_path_factory) -> tuple[str, Page]:
    folder = tmp_path_factory.mktemp("page")
    dataset = Noise(5, size=(48, 64))
    head = ["epoch", "learning_rate", "loss", "val_loss", "rpn_class_loss", "segm_AP", "bbox_AP"]
    rows = [[n, 0.01, 2 / n, 2.1 / n, 1 / n, 0.1 * n, ""] for n in range(1, 4)]
    write_results(folder, rows, head)
    about = {"Weights": "<b>weights</b>"}
    path = folder / "report.html"
    return written(path, dataset, training=Noise(4), run_folder=folder, about=about)


def test_the_page_has_every_section(small_page):
    _, page = small_page
    assert "Up to epoch 3. Highest AP of masks: 0.300, at epoch 3." in page.text
    assert set(SECTIONS) | {"training"} <= set(page.ids)
    assert {f"#{name}" for name in SECTIONS} <= set(page.addresses)
    assert page.open == []


def test_sections_without_figures_are_left_out(tmp_path):
    _, page = written(tmp_path / "a.html", Noise(3, names=("a",), size=(48, 64)))
    assert not {"training", "classes"} & set(page.ids)
    assert "Training samples" not in page.text


def test_ids_are_unique_and_links_lead_to_them(small_page):
    _, page = small_page
    assert [name for name, count in Counter(page.ids).items() if count > 1] == []
    inner = {address[1:] for address in page.addresses if address.startswith("#")}
    assert inner
    assert inner <= set(page.ids)


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs(small_page):
    text, page = small_page
    assert all(address.startswith(("#", "data:")) for address in page.addresses)
    assert not {"script", "iframe", "object", "form", "base"} & set(page.tags)
    assert page.handlers == []
    assert not re.search(r"url\((?!#)|@import", text)
    assert "default-src 'none'" in text


def test_pictures_are_drawn(small_page):
    text, page = small_page
    assert page.tags["svg"] >= 12
    # Six training samples, three batches of two, and pairs of images.
    assert "Training samples" in page.text
    assert text.count("data:image/webp;base64,") == page.tags["img"] >= 6 + 2


def test_numbers_are_those_of_the_scores(tmp_path):
    dataset = Noise(5, size=(48, 64))
    scores = report.write(tmp_path / "a.html", stand_in(dataset), dataset)
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert 0 < scores["segm"]["AP50"] < 1
    for kind in ("segm", "bbox"):
        for figure in ("AP", "AP50", "AP75"):
            assert f"{scores[kind][figure]:.3f}" in page.text
    assert f"where the AP is {scores['segm']['AP50']:.3f}" in page.text


@pytest.mark.filterwarnings("error")
def test_hostile_names_are_shown_as_they_are(tmp_path):
    name = "<img src=x onerror=alert(1)>\"'&{}.png"
    dataset = Noise(8, names=HOSTILE, size=(48, 64), file_name=name)
    training = Noise(4, names=HOSTILE, size=(48, 64))
    about = {"<u>Weights</u>": "</style><script>1</script>"}
    text, page = written(tmp_path / "a.html", dataset, training=training, about=about)
    assert not {"script", "u"} & set(page.tags)
    assert page.handlers == []
    assert page.open == []
    assert [each for each, count in Counter(page.ids).items() if count > 1] == []
    for each in HOSTILE:
        assert " ".join(each.split()) in page.text
    assert html.escape(name.format(0)).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in text
    assert "</style><script>1</script>" in page.text


def test_names_keep_a_figure_legible():
    assert svg.short("a\n b") == "a b"
    assert svg.short("\u202eabc\u2066") == "abc"
    assert len(svg.short("long " * 60)) == svg.LONGEST
    assert not svg.short("_under").startswith("_")


def test_100_images_take_2_mb_at_most(tmp_path):
    dataset = Noise(100)
    written(tmp_path / "a.html", dataset, training=Noise(8))
    assert 200_000 < (tmp_path / "a.html").stat().st_size <= 2_000_000


@pytest.mark.parametrize("shape", [(480, 640, 3), (3, 5, 1), (900, 30, 3), (2000, 2000, 3)])
def test_pictures_keep_to_their_budget(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    boxes = np.array([[0, 0, 2, 3]], np.float32)
    mask = np.zeros(shape[:2], bool)
    mask[:2, :3] = True
    shown = pictures.Shown(boxes, lambda _: mask, np.full((1, 3), 200, np.uint8), ["a"])
    drawn = pictures.draw(image, shown, "noise")
    assert len(drawn.uri) <= 4 / 3 * pictures.MOST_BYTES + 40
    assert max(drawn.width, drawn.height) <= pictures.SIDE


def test_a_network_that_finds_nothing_gets_a_page(tmp_path):
    dataset = Noise(3, size=(48, 64))
    model = stand_in(dataset)
    model.detect_dataset = finds_nothing
    scores = report.write(tmp_path / "a.html", model, dataset)
    assert scores["segm"]["AP"] == 0
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "No detection is correct" in page.text
    assert "Worst images" in page.text
    assert "Best images" not in page.text


def test_a_dataset_without_objects_gets_a_page(tmp_path):
    dataset = Rectangles(3, has_objects=False)
    model = stand_in(dataset)
    model.detect_dataset = finds_nothing
    assert report.write(tmp_path / "a.html", model, dataset)["segm"]["AP"] is None
    assert Page((tmp_path / "a.html").read_text(encoding="utf-8")).tags["section"] >= 6


@pytest.fixture(scope="module")
def finder(tmp_path_factory) -> MaskRCNN:
    """A network that finds eight objects in every image, which is its limit."""
    model = MaskRCNN("inference", SmallConfig(), tmp_path_factory.mktemp("logs"))
    make_find_objects(model.network)
    return model


def test_a_network_detects_once_in_every_image(finder, tmp_path, monkeypatch, caplog):
    detected = []
    each = finder.predictor.detect_each
    monkeypatch.setattr(
        finder.predictor, "detect_each", lambda *args, **kw: detected.append(1) or each(*args, **kw)
    )
    dataset, seen = Rectangles(5, bad=()), []
    with caplog.at_level(logging.ERROR, "mrcnn"):
        scores = report.write(
            tmp_path / "a.html", finder, dataset, progress=lambda pairs: seen.extend(pairs) or pairs
        )
    assert len(detected) == len(seen) == 5
    assert scores == finder.evaluate(dataset, verbose=0)


def test_images_that_cannot_be_read_are_left_out(finder, tmp_path):
    report.write(tmp_path / "a.html", finder, Rectangles(12, bad=(2,)), training=Rectangles(4))
    page = Page((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert "Images 11 of 12 (the others could not be read)" in page.text
    assert "2.png" not in page.text.split()


def test_a_file_is_replaced_when_the_page_is_whole(tmp_path):
    path, dataset = tmp_path / "a.html", Noise(3, size=(48, 64))
    path.write_text("before")
    model = stand_in(dataset)

    def fail(*_, **__):
        raise RuntimeError("out of memory")

    model.detect_dataset = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        report.write(path, model, dataset)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_told_before_detecting(tmp_path):
    dataset = Noise(3, size=(48, 64))
    model = stand_in(dataset)
    model.detect_dataset = None
    with pytest.raises(IsADirectoryError, match="the name of a file is wanted"):
        report.write(tmp_path, model, dataset)


def test_a_history_may_lack_columns_and_cells(tmp_path):
    head = ["epoch", "loss", "val_loss", "segm_AP", "minutes"]
    rows = [[1, 2.5, "", "", 1], [2, "nan", "", 0.25, 2], [3, "inf", "", "", ""]]
    write_results(tmp_path, rows, head)
    found = history.read(tmp_path)
    assert found.epochs.tolist() == [1, 2, 3]
    assert set(found.columns) == {"epoch", "loss", "segm_AP", "minutes"}
    np.testing.assert_array_equal(found.columns["loss"], [2.5, np.nan, np.nan])
    assert found.losses == ["loss"]
    assert found.precisions == ["segm_AP"]


def test_the_later_row_of_an_epoch_counts(tmp_path):
    write_results(tmp_path, [[1, 3], [2, 2], [3, 9], [2, 1]], ["epoch", "loss"])
    found = history.read(tmp_path)
    assert found.epochs.tolist() == [1, 2, 3]
    assert found.columns["loss"].tolist() == [3, 1, 9]


def test_losses_begin_with_the_total(tmp_path):
    head = ["epoch", "step", "learning_rate", "rpn_loss", "loss", "val_loss", "val_rpn_loss"]
    write_results(tmp_path, [[1] * len(head)], head)
    assert history.read(tmp_path).losses == ["loss", "rpn_loss"]


@pytest.mark.parametrize("text", [None, "", "epoch,loss\n"])
def test_no_history(tmp_path, text):
    if text is not None:
        (tmp_path / of_training.NAME).write_text(text)
    assert history.read(tmp_path) is None


def test_a_damaged_history_is_told_and_nothing_written(tmp_path):
    (tmp_path / of_training.NAME).write_text("epoch,loss\n1,x\n")
    with pytest.raises(ValueError, match="not a table of results"):
        written(tmp_path / "a.html", Noise(2, size=(48, 64)), run_folder=tmp_path)
    assert not (tmp_path / "a.html").exists()


@pytest.mark.parametrize(
    "head", [["epoch", "loss"], ["epoch", "segm_AP"], ["learning_rate", "epoch"], ["epoch"]]
)
def test_a_history_of_one_epoch_with_few_columns_is_drawn(tmp_path, head):
    write_results(tmp_path, [[1] * len(head)], head)
    dataset = Noise(2, size=(48, 64))
    _, page = written(tmp_path / "a.html", dataset, run_folder=tmp_path)
    assert "training" in page.ids


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window: one that is installed, or Playwright's own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as started:
        installed = shutil.which("chromium") or shutil.which("google-chrome")
        try:
            opened = started.chromium.launch(executable_path=installed, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium starts here: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_a_browser_shows_it_without_errors_or_requests(browser, small_page, tmp_path, width):
    path = tmp_path / "report.html"
    path.write_text(small_page[0], encoding="utf-8")
    shown = browser.new_page(viewport={"width": width, "height": 800})
    said, asked = [], []
    shown.on("console", lambda message: said.append(message.text))
    shown.on("pageerror", lambda error: said.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto(path.as_uri())
    shown.wait_for_load_state("networkidle")
    assert said == []
    assert {url for url in asked if not url.startswith("data:")} == {path.as_uri()}
    assert shown.evaluate("document.documentElement.scrollWidth") <= width
    loaded = "[...document.images].every(image => image.complete && image.naturalWidth)"
    assert shown.evaluate(loaded)
    assert shown.locator("svg").count() >= 12
    shown.close()


def matrix(count: int) -> analysis.Confusion:
    """Return a matrix of classes with 1, 2, 3, ... right detections, each missed once."""
    counts = np.diag(np.append(np.arange(1, count + 1), 0))
    counts[:-1, -1] = 1
    return analysis.Confusion([*map(str, range(count)), "background"], counts)


def test_the_rarest_classes_of_a_large_confusion_matrix_are_merged():
    found = matrix(quality.MOST_CONFUSED + 3)
    merged = quality._merged(found)
    assert merged.names == [*map(str, range(3, 23)), "3 other classes", "background"]
    assert merged.counts.sum() == found.counts.sum()
    assert merged.counts[0].tolist() == [4] + [0] * 20 + [1]
    assert merged.counts[-2].tolist() == [0] * 20 + [1 + 2 + 3, 3]
    assert quality._merged(matrix(quality.MOST_CONFUSED)).names[-2] == "19"


def test_classes_that_do_not_occur_are_left_out_of_the_matrix():
    found = matrix(3)
    found.counts[1] = 0
    used = quality._used(found)
    assert used.names == ["0", "2", "background"]
    assert used.counts.tolist() == [[1, 0, 1], [0, 3, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("box", "category", "expected"),
    [
        ([60, 60, 20, 20], 1, "nothing is annotated there"),
        ([0, 0, 20, 20], 1, "a duplicate of a higher-scoring detection"),
        ([0, 0, 20, 20], 2, "annotated as “a”"),
        ([0, 0, 20, 8], 1, "the IoU with the nearest object, “a”, is only 0.40"),
        ([0, 0, 20, 8], 3, "the IoU with the nearest object, “a”, is only 0.40"),
    ],
)
def test_wrong_detections_are_explained(box, category, expected):
    coco_gt = coco.ground_truth(content([item(1, 1, [0, 0, 20, 20])], num_images=1))
    results = [result(1, 1, [0, 0, 20, 20], 0.9), result(1, category, box, 0.8)]
    found = analysis.analyse(coco_gt, results, "segm", max_detections=9)
    name = "abc"[category - 1]
    assert examples._explained(found, 1) == f"“{name}” 0.80: {expected}"


def test_the_most_confident_errors_are_of_different_images():
    objects = [item(n, 1, [0, 0, 20, 20]) for n in (1, 2, 3)]
    results = [result(n, 1, [0, 0, 20, 20], 0.5) for n in (1, 2, 3)]
    wrong = [result(1, 1, [60, 60, 9, 9], 0.9), result(1, 1, [60, 0, 9, 9], 0.8)]
    wrong += [result(3, 1, [60, 60, 9, 9], 0.7), result(2, 1, [60, 60, 9, 9], 0.4)]
    coco_gt = coco.ground_truth(content(objects, num_images=3))
    found = analysis.analyse(coco_gt, results + wrong, "segm", max_detections=9)
    # The best score is 0.5: the wrong one of 0.4 is not kept.
    chosen = examples._surest(found)
    assert found.matches.scores[chosen].tolist() == [0.9, 0.7]
    assert found.matches.images[chosen].tolist() == [0, 2]


class Unreadable(Noise):
    """A dataset of which one image has masks that cannot be read."""

    def load_mask(self, image_id):
        if image_id == 1:
            raise OSError("damaged")
        return super().load_mask(image_id)


def test_training_images_that_cannot_be_read_are_counted(caplog):
    with caplog.at_level(logging.WARNING, "mrcnn"):
        found, num_bad = contents.of_dataset(Unreadable(4, size=(48, 64)), [0, 1, 3])
    assert num_bad == 1
    assert "left out of the report: image 1: OSError: damaged" in caplog.text
    assert found.image_sizes.tolist() == [[48, 64]] * 2
    assert found.images.tolist() == [0] * 4 + [1] * 4
    assert found.sides == pytest.approx(np.sqrt(12 * 16))
    assert found.class_names == ["a", "b"]
