"""Sites are made and networks trained as by the command, with callbacks."""

import json
import os
import signal
import threading
import unittest
from pathlib import Path

import numpy
from magpie_recognizer import Extractor, Gallery, Recognizer, Run, Stopped, Trainer, site
from world import EXTRACTOR, RECIPE, World, answers, command, page, photos


def files(folder):
    """Every file of a folder, without what says when it was made."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }


class Sites(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.photos = photos(cls.folder / "photos")
        cls.page = page(cls.folder)

    def test_a_site_is_that_of_the_command_byte_for_byte(self):
        steps = []
        own = site(
            self.photos,
            self.folder / "own",
            title="Things",
            samples=2,
            page=self.page,
            extractor=EXTRACTOR,
            progress=lambda *step: steps.append(step),
        )
        words = ["--title", "Things", "--samples", "2", "--page", self.page, "--extractor", EXTRACTOR]
        told = answers("site", self.photos, "--out", self.folder / "told", *words, "--json")[0]
        self.assertEqual(files(self.folder / "own"), files(self.folder / "told"))
        for name in ("gallery.bin", "embeddings.bin", "index.html"):
            self.assertEqual(
                (self.folder / "own.report" / name).read_bytes(), (self.folder / "told.report" / name).read_bytes()
            )
        for different in ("site", "gallery", "report", "seconds"):
            own.pop(different), told.pop(different)
        self.assertEqual(own, told)
        self.assertEqual(own["pictures"], 20)
        self.assertIn(("pictures", 20, 20), steps)
        again = site(self.photos, self.folder / "own", page=self.page, extractor=EXTRACTOR)
        self.assertEqual((again["embedded"], again["known"]), (0, 20))

    def test_a_callback_stops_a_site_and_the_same_call_goes_on(self):
        out = self.folder / "stopped"

        def stop(what, done, of):
            raise Stopped(f"after {done} of {of} {what}")

        with self.raises(Stopped, "pictures"):
            site(self.photos, out, page=self.page, extractor=EXTRACTOR, progress=stop)
        self.assertFalse(out.exists())
        left = [path.name for path in self.folder.iterdir() if path.name.startswith(".")]
        self.assertEqual(left, [])
        told = site(self.photos, out, page=self.page, extractor=EXTRACTOR)
        self.assertEqual(told["pictures"], 20)

    def test_names_with_a_hyphen_before_are_no_options(self):
        sample = self.photos / "thing 0 类" / "0.png"
        here = os.getcwd()
        os.chdir(self.folder)
        try:
            photos("--help", 2, 3)
            told = site("--help", "-o", title="-x", page=self.page, extractor=EXTRACTOR, samples=str(sample))
            gallery = Gallery.build("--help", "-g.bin", extractor=EXTRACTOR, calibrate=False)
        finally:
            os.chdir(here)
        self.assertEqual((told["pictures"], len(gallery)), (6, 6))
        self.assertTrue((self.folder / "-g.bin").is_file())
        recognizer = Recognizer.open(self.folder / "-o")
        self.assertEqual(recognizer.title, "-x")
        offered = [path for path in (self.folder / "-o").rglob("*") if path.parent.name == "samples"]
        self.assertEqual(len(offered), 1, files(self.folder / "-o").keys())

    @unittest.skipIf(os.name == "nt", "signals of Unix")
    def test_ctrl_c_ends_a_site(self):
        out = self.folder / "interrupted"

        def press(what, done, of):
            os.kill(os.getpid(), signal.SIGINT)

        with self.raises(KeyboardInterrupt, ""):
            site(self.photos, out, page=self.page, extractor=EXTRACTOR, progress=press)
        self.assertFalse(out.exists())

    def test_errors_are_the_commands_sentences(self):
        nowhere = self.folder / "nowhere"
        said = command("site", nowhere, "--out", self.folder / "x", "--page", self.page, fails=True)
        try:
            site(nowhere, self.folder / "x", page=self.page)
        except FileNotFoundError as error:
            self.assertEqual(said, f"error: {error}\n")
        else:
            self.fail("nothing is there")
        with self.raises(ValueError, "would lie among the pictures"):
            site(self.photos, self.photos / "site", page=self.page)
        with self.raises(ValueError, "invalid value 'never mind' for 'crop"):
            site(self.photos, self.folder / "x", crop="never mind")
        with self.raises(TypeError, "unexpected keyword argument 'tint'"):
            site(self.photos, self.folder / "x", tint="red")


class Training(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.photos = photos(cls.folder / "photos")
        cls.recipe = cls.folder / "recipe.toml"
        cls.recipe.write_text(RECIPE)
        cls.overrides = {"extractor.train": str(cls.photos), "extractor.query": cls.photos}

    def trainer(self, **overrides):
        return Trainer(self.recipe, overrides={**self.overrides, **overrides})

    def test_a_run_is_that_of_the_command(self):
        epochs, steps, evaluations, progress = [], [], [], []
        run = self.trainer(epochs=2).train(
            self.folder / "own",
            on_epoch=epochs.append,
            on_step=steps.append,
            on_evaluation=evaluations.append,
            progress=lambda *step: progress.append(step),
        )
        words = [f"--override=extractor.train={json.dumps(str(self.photos))}"]
        words += [f"--override=extractor.query={json.dumps(str(self.photos))}", "--override=epochs=2", "--json"]
        told = answers("train", "--config", self.recipe, "--out", self.folder / "told", *words)
        model = (self.folder / "told" / "model.safetensors").read_bytes()
        self.assertEqual(Path(run.model).read_bytes(), model)

        def same(records):
            return [
                {name: of for name, of in record.items() if name not in ("ips", "waiting", "eta")} for record in records
            ]

        kinds = {"epoch": epochs, "train": steps, "eval": evaluations}
        for kind, records in kinds.items():
            expected = same(record for record in told if record["kind"] == kind)
            self.assertEqual([record["kind"] for record in records], [kind] * len(expected))
            for record, other in zip(same(records), expected):
                self.assertEqual(
                    record["loss" if kind != "eval" else "recall1"], other["loss" if kind != "eval" else "recall1"]
                )
        self.assertEqual((run.epochs, run.evaluations), (epochs, evaluations))
        self.assertEqual([record["epoch"] for record in epochs], [1, 2])
        self.assertTrue(any(what == "steps of epoch 2" for what, _, _ in progress), progress)
        self.assertIsInstance(run, Run)
        self.assertGreater(Extractor.open(run.model).dim, 0)

    def test_a_callback_ends_a_run_after_the_epoch_and_it_goes_on(self):
        whole = self.trainer().train(self.folder / "whole")
        out = self.folder / "parts"
        part = self.trainer().train(out, on_step=lambda record: False)
        self.assertEqual((part.model, len(part.epochs)), (None, 1))
        rest = self.trainer().train(out, resume=True)
        self.assertEqual([record["epoch"] for record in rest.epochs], [2, 3])
        self.assertEqual(Path(rest.model).read_bytes(), Path(whole.model).read_bytes())

    def test_what_a_callback_raises_comes_out_and_the_run_goes_on(self):
        out = self.folder / "raised"

        def stop(record):
            if record["epoch"] == 2:
                raise Stopped("enough")

        with self.raises(Stopped, "enough"):
            self.trainer().train(out, on_epoch=stop)
        rest = self.trainer().train(out, resume=True)
        self.assertEqual([record["epoch"] for record in rest.epochs], [2, 3])

    def test_two_runs_at_once_keep_apart(self):
        heard = {0: [], 1: []}

        def train(number):
            trainer = self.trainer(seed=number, epochs=1)
            trainer.train(self.folder / f"twin {number}", on_step=heard[number].append)

        threads = [threading.Thread(target=train, args=(number,)) for number in heard]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for number, records in heard.items():
            text = (self.folder / f"twin {number}" / "metrics.jsonl").read_text(encoding="utf-8")
            own = [json.loads(line) for line in text.splitlines()]
            self.assertEqual(records, [record for record in own if record["kind"] == "train"])
            self.assertGreater(len(records), 1)

    def test_overrides_are_numbers_of_numpy_as_well(self):
        rate = {"schedule.learning_rate": numpy.float64(0.01), "epochs": numpy.int64(1), "seed": numpy.uint8(5)}
        values = {"preprocess.mean": numpy.array([0.5, 0.5, 0.5]), "extractor.model.backbone.shitu": numpy.bool_(True)}
        own = self.trainer(**rate, **values).train(self.folder / "of numpy")
        plain = self.trainer(**{"schedule.learning_rate": 0.01, "epochs": 1, "seed": 5}).train(self.folder / "plain")
        self.assertEqual(Path(own.model).read_bytes(), Path(plain.model).read_bytes())

    def test_errors_are_the_commands_sentences(self):
        with self.raises(ValueError, "unknown field `epoch`"):
            self.trainer(epoch=2).train(self.folder / "x")
        with self.raises(FileNotFoundError, "there is no such file or folder"):
            Trainer(self.folder / "nowhere.toml").train(self.folder / "x")
        with self.raises(TypeError, "give a recipe, or photos"):
            Trainer()
        with self.raises(TypeError, "object is no value of a recipe"):
            self.trainer(seed=object()).train(self.folder / "x")
        self.assertIn("photos", Trainer.recipes())


if __name__ == "__main__":
    unittest.main()
