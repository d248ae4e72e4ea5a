"""The examples of docs/python.md and the cells of docs/python.ipynb run, from top to bottom."""

import contextlib
import io
import json
import os
import re
import unittest

import magpie_recognizer
from PIL import Image
from world import RECIPE, ROOT, World, page, photos, thing


class Docs(World):
    def setUp(self):
        before = os.getcwd()
        self.place = self.folder / self.id().rsplit(".", 1)[-1]
        self.place.mkdir()
        os.chdir(self.place)
        self.addCleanup(os.chdir, before)
        photos(self.place / "photos")
        page(self.place).rename(self.place / "dist")
        Image.fromarray(thing(1, 77)).save("shelf.jpg", quality=92)
        recipe = RECIPE.replace('query = "unset"\nhold_out = 0.0\n', "")
        (self.place / "mine.toml").write_text(recipe)
        os.mkdir("new")
        for number in (1, 2):
            Image.fromarray(thing(2, 60 + number)).save(f"new/mug{number}.jpg")

    def run_all(self, parts, name):
        known, printed = {"__name__": "__main__"}, io.StringIO()
        with contextlib.redirect_stdout(printed):
            for number, text in enumerate(parts, 1):
                exec(compile(text, f"{name}, part {number}", "exec"), known)
        return printed.getvalue()

    def test_the_examples_of_the_page_run(self):
        text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
        parts = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
        self.assertGreater(len(parts), 6)
        printed = self.run_all(parts, "python.md")
        self.assertIn("nowhere.jpg: there is no such file or folder; give a picture", printed)
        self.assertIn("'rec_docs': 'thing 1 类'", printed)

    def test_the_page_names_everything(self):
        text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
        for name in magpie_recognizer.__all__:
            there = getattr(magpie_recognizer, name)
            if name in ("Picture", "__version__"):
                continue
            self.assertIn(name, text)
            if name in ("Gallery", "Recognizer", "Extractor", "Detector", "Trainer"):
                for method in vars(there):
                    if not method.startswith("_"):
                        self.assertRegex(text, rf"\b{method}\b", name)

    def test_the_cells_of_the_notebook_run(self):
        book = json.loads((ROOT / "docs/python.ipynb").read_text(encoding="utf-8"))
        self.assertEqual((book["nbformat"], book["metadata"]["language_info"]["name"]), (4, "python"))
        cells = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
        self.assertGreater(len(cells), 5)
        for cell in book["cells"]:
            self.assertFalse(cell.get("outputs"), "outputs are of one machine")
        printed = self.run_all(cells, "python.ipynb")
        self.assertIn("thing 1 类", printed)


if __name__ == "__main__":
    unittest.main()
