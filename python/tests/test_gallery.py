"""Galleries are built, changed, searched and kept as by the command."""

import os
import shutil
import signal
import threading
import time
import unittest
from hashlib import sha256
from pathlib import Path

import numpy
from magpie_recognizer import Detector, Extractor, Gallery
from PIL import Image
from world import DETECTOR, EXTRACTOR, World, answers, command, photos, signals, thing


class Galleries(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.photos = photos(cls.folder / "photos")
        cls.extractor = Extractor.open(EXTRACTOR)
        cls.file = cls.folder / "gallery.bin"
        command(
            "gallery", "build", "--images", cls.photos, "--extractor", EXTRACTOR, "--crop", "never", "--out", cls.file
        )

    def copy(self, name):
        return Path(shutil.copy(self.file, self.folder / name))

    def test_a_gallery_is_built_as_by_the_command_byte_for_byte(self):
        steps = []
        gallery = Gallery.build(
            self.photos, extractor=EXTRACTOR, crop="never", progress=lambda *step: steps.append(step)
        )
        self.assertEqual(gallery.to_bytes(), self.file.read_bytes())
        self.assertIn(("pictures", 20, 20), steps)
        out = self.folder / "kept.bin"
        with self.assertLogs("magpie_recognizer", "INFO") as log:
            other = Gallery.build(
                self.photos, out, extractor=EXTRACTOR, index="flat", values="f32", adapt=False, calibrate=False
            )
        self.assertIn("20/20 pictures", "\n".join(log.output))
        self.assertEqual(out.read_bytes(), other.to_bytes())
        again = self.folder / "again.bin"
        words = ["--index", "flat", "--values", "f32", "--adapt", "never", "--calibrate", "never"]
        command("gallery", "build", "--images", self.photos, "--extractor", EXTRACTOR, "--out", again, *words)
        self.assertEqual(out.read_bytes(), again.read_bytes())
        self.assertEqual(Gallery.from_bytes(again.read_bytes()).to_bytes(), again.read_bytes())

    def test_pictures_that_are_left_out_are_in_the_log(self):
        broken = photos(self.folder / "broken", 2, 2)
        (broken / "thing 0 类" / "x.png").write_bytes(b"text")
        with self.assertLogs("magpie_recognizer", "WARNING") as log:
            gallery = Gallery.build(broken, extractor=EXTRACTOR, crop="never")
        self.assertIn("x.png: not a picture", "\n".join(log.output))
        self.assertEqual(len(gallery), 4)
        with self.raises(ValueError, "x.png: not a picture"):
            Gallery.build(broken, extractor=EXTRACTOR, crop="never", strict=True)

    def test_pictures_are_added_as_by_the_command(self):
        files = [self.folder / f"new {number}.png" for number in range(3)]
        for number, file in enumerate(files):
            Image.fromarray(thing(3, 20 + number)).save(file)
        path = self.copy("added.bin")
        command("gallery", "add", path, "--class", "New", "--extractor", EXTRACTOR, *files)
        gallery = Gallery.open(self.file)
        left_out = gallery.add("New", [files[0], files[1].read_bytes(), files[2]], self.extractor)
        self.assertEqual(left_out, [])
        self.assertEqual(gallery.to_bytes(), path.read_bytes())
        gallery.add("New", files, self.extractor)
        self.assertEqual(gallery.to_bytes(), path.read_bytes(), "what is there is not added again")
        left_out = gallery.add("New", [numpy.zeros((9, 9, 3), numpy.uint8), thing(3, 30)], self.extractor)
        self.assertEqual(len(left_out), 1)
        self.assertIn("picture 1 of 2: all its pixels have one color", left_out[0])
        self.assertEqual(len(gallery), 24)

    def test_a_gallery_that_has_grown_learns_anew_as_by_the_command(self):
        more = photos(self.folder / "more", 4, 9)
        files = sorted((more / "thing 1 类").glob("*.png"))
        path = self.copy("grown.bin")
        command("gallery", "add", path, "--class", "thing 1 类", "--extractor", EXTRACTOR, *files[:9])
        command("gallery", "add", path, "--class", "Other", "--extractor", EXTRACTOR, *files[:4])
        gallery = Gallery.open(self.file)
        gallery.add("thing 1 类", files[:9], self.extractor)
        gallery.add("Other", files[:4], self.extractor)
        self.assertEqual(gallery.to_bytes(), path.read_bytes())

    def test_main_bodies_need_a_detector(self):
        gallery = Gallery.new(self.extractor, crop="main")
        with self.raises(ValueError, "give a detector, too"):
            gallery.add("A", thing(0, 1), self.extractor)
        self.assertEqual(len(gallery), 0)
        gallery.add("A", [thing(0, 1), thing(0, 2)], self.extractor, detector=Detector.open(DETECTOR))
        self.assertEqual((len(gallery), gallery.crop), (2, "main"))

    def test_answers_are_those_of_search(self):
        paths = sorted(self.photos.rglob("*.png"))[::3]
        told = answers("gallery", "search", self.file, "--extractor", EXTRACTOR, "--json", "-k", "3", *paths)
        gallery = Gallery.open(self.file)
        found = gallery.search(self.extractor.embed(paths), 3)
        self.assertEqual(len(found), len(paths))
        for answer, expected in zip(found, told):
            self.assertEqual([match._asdict() for match in answer.matches], expected["matches"])
            self.assertEqual((answer.lead, answer.probability), (expected["lead"], expected["probability"]))
        self.assertEqual(gallery.search(self.extractor.embed(paths[1]), 3), found[1])
        self.assertEqual(found[0].label, "thing 0 类")
        double = self.extractor.embed(paths).astype(numpy.float64)
        self.assertEqual(gallery.search(double[:, :], 3), found)
        gallery.min_similarity = 1.0
        self.assertEqual(gallery.min_similarity, 1.0)

    def test_numpy_comes_and_goes(self):
        gallery = Gallery.open(self.file)
        embeddings, labels = gallery.to_numpy()
        self.assertEqual((embeddings.shape, embeddings.dtype), ((20, self.extractor.dim), numpy.float32))
        self.assertFalse(embeddings.flags["OWNDATA"] or embeddings.flags["W"])
        self.assertEqual(labels, [f"thing {place // 5} 类" for place in range(20)])
        first = sorted(self.photos.rglob("*.png"))[0]
        self.assertEqual(gallery.contents()[0], sha256(first.read_bytes()).digest()[:16])
        near = self.extractor.embed(first) @ embeddings[0]
        self.assertGreater(near, 0.999)
        again = Gallery.from_numpy(
            embeddings, labels, extractor=self.extractor, contents=gallery.contents(), values="f32"
        )
        self.assertEqual(again.to_numpy()[1], labels)
        self.assertTrue(numpy.allclose(again.to_numpy()[0], embeddings, atol=1e-3))
        self.assertEqual(again.contents(), gallery.contents())
        self.assertEqual((again.model, again.dim, len(again)), (self.extractor.id, self.extractor.dim, 20))
        again.add("thing 0 类", first, self.extractor)
        self.assertEqual(len(again), 20, "a picture is known by its content")
        draw = numpy.random.RandomState(5)
        many = Gallery.from_numpy(
            draw.normal(size=(9000, 16)), [f"c{place % 300}" for place in range(9000)], model="mine"
        )
        self.assertEqual((len(many), len(many.classes), many.model), (9000, 300, "mine"))
        rows = many.to_numpy()[0]
        self.assertTrue(numpy.allclose(numpy.linalg.norm(rows, axis=1), 1, atol=1e-3))
        exact = (rows @ rows[4321]).argsort()[::-1][0]
        self.assertEqual(many.search(rows[4321], 1).matches[0].label, f"c{exact % 300}")

    def test_changes_are_those_of_the_command(self):
        path = self.copy("changed.bin")
        command("gallery", "rename", path, "thing 0 类", "Zero")
        command("gallery", "describe", path, "Zero", "--set", "price=9 €", "--min-similarity", "0.75")
        command("gallery", "remove", path, "--class", "thing 3 类")
        first = sorted(self.photos.rglob("*.png"))[6]
        command("gallery", "remove", path, "--image", first)
        gallery = Gallery.open(self.file)
        gallery.rename("thing 0 类", "Zero")
        gallery.describe("Zero", {"price": "9 €"}, min_similarity=0.75)
        self.assertEqual(gallery.remove("thing 3 类"), 5)
        self.assertEqual(gallery.remove_pictures(first), 1)
        self.assertEqual(gallery.to_bytes(), path.read_bytes())
        self.assertEqual(gallery.to_dict(), answers("gallery", "list", path, "--json")[0])
        zero = gallery.classes[0]
        self.assertEqual(
            (zero.label, zero.metadata, zero.min_similarity, zero.entries), ("Zero", {"price": "9 €"}, 0.75, 5)
        )
        self.assertIn("Zero", gallery)
        self.assertNotIn("thing 3 类", gallery)
        gallery.remove_entries([0, 13])
        self.assertEqual(len(gallery), 12)
        other = Gallery.open(self.file)
        self.assertEqual(other.merge(gallery), 4, "of the class that is renamed")
        self.assertIn("entries=24", repr(other))

    def test_what_is_learned_is_what_the_command_learns(self):
        # Half of the values say nothing of the class, and differ most.
        draw = numpy.random.RandomState(11)
        means = numpy.hstack([draw.normal(size=(40, 8)), numpy.zeros((40, 8))])
        rows = numpy.repeat(means, 6, axis=0) + draw.normal(size=(240, 16)) * ([0.1] * 8 + [2.0] * 8)
        labels = [f"c{place // 6}" for place in range(240)]
        gallery = Gallery.from_numpy(rows, labels, model="mine")
        path = self.folder / "learned.bin"
        gallery.save(path)
        told = answers("gallery", "adapt", path, "--kind", "whitening", "--strength", "0.5", "--json")[0]
        own = gallery.adapt(kind="whitening", strength=0.5)
        self.assertEqual(own.pop("seconds") >= 0, told.pop("seconds") >= 0)
        self.assertEqual(own, told)
        self.assertEqual(gallery.to_bytes(), path.read_bytes())
        self.assertEqual((own["kept"], gallery.map), (True, "whitening"))
        told = answers("gallery", "calibrate", path, "--write", "--even-if-poor", "--false-accept", "0.2", "--json")[0]
        self.assertEqual(gallery.calibrate(false_accept=0.2, even_if_poor=True), told)
        self.assertEqual(gallery.to_bytes(), path.read_bytes())
        self.assertIsNotNone(gallery.min_similarity)
        command("gallery", "adapt", path, "--none")
        gallery.adapt(remove=True)
        self.assertEqual((gallery.to_bytes(), gallery.map), (path.read_bytes(), None))
        query = photos(self.folder / "query", 4, 2)
        told = answers("gallery", "calibrate", self.file, "--query", query, "--extractor", EXTRACTOR, "--json")[0]
        own = Gallery.open(self.file)
        self.assertEqual(own.calibrate(query, extractor=EXTRACTOR, write=False), told)
        self.assertEqual(own.to_bytes(), self.file.read_bytes())

    def test_errors_leave_a_gallery_as_it_was(self):
        gallery = Gallery.open(self.file)
        before = gallery.to_bytes()
        with self.raises(ValueError, 'there is no class "thing 9 类"; did you mean'):
            gallery.remove("thing 9 类")
        with self.raises(ValueError, "the name of a class is blank"):
            gallery.add(" ", thing(0, 1), self.extractor)
        with self.raises(ValueError, "the name of a class holds U+001B"):
            gallery.add("a\x1b[31m", thing(0, 1), self.extractor)
        with self.raises(ValueError, "the embedding holds a value that is not finite"):
            gallery.add_embeddings(numpy.full((2, gallery.dim), numpy.nan), ["a", "b"])
        with self.raises(ValueError, "the embedding has length zero"):
            gallery.add_embeddings(numpy.zeros((1, gallery.dim)), ["a"])
        with self.raises(ValueError, "2 embeddings have 1 labels"):
            gallery.add_embeddings(numpy.ones((2, gallery.dim)), ["a"])
        with self.raises(ValueError, "2 embeddings have 1 labels"):
            gallery.add_embeddings(numpy.ones((2, gallery.dim)), "ab")
        with self.raises(ValueError, "contents of 20 bytes; give 16 each"):
            gallery.add_embeddings(numpy.ones((2, gallery.dim)), ["a", "b"], contents=[bytes(16), bytes(20)])
        with self.raises(ValueError, "contents of 0 bytes; give 16 each"):
            gallery.add_embeddings(numpy.ones((5000, gallery.dim)), ["a"] * 5000, contents=[bytes(16)] * 4999 + [b""])
        for least in (5.0, -1.5, float("nan")):
            with self.raises(ValueError, f"min_similarity: {least}; give a cosine from -1 to 1"):
                gallery.describe("thing 1 类", {}, min_similarity=least)
        with self.raises(ValueError, "embeddings of shape ()"):
            gallery.search(numpy.float32(1))
        with self.raises(ValueError, "embeddings have 3 values, the gallery holds"):
            gallery.search(numpy.ones(3))
        with self.raises(ValueError, "k: 0; give 1 or more"):
            gallery.search(numpy.ones(gallery.dim), 0)
        with self.raises(TypeError, "give floats"):
            gallery.add_embeddings(numpy.full((1, gallery.dim), "x"), ["a"])
        with self.raises(ValueError, "there is no entry 20: there are 20"):
            gallery.remove_entries([3, 20])
        with self.raises(ValueError, "no entry was made from this picture"):
            gallery.remove_pictures(thing(1, 99))
        with self.raises(ValueError, "invalid value 'sideways' for 'kind"):
            gallery.adapt(kind="sideways")
        with self.raises(ValueError, "belongs to another model"):
            gallery.add("A", thing(0, 1), Extractor.open())
        with self.raises(ValueError, "belongs to another model"):
            gallery.merge(Gallery.new(Extractor.open()))
        with self.raises(ValueError, "min_similarity: 2; give a cosine"):
            gallery.min_similarity = 2
        with self.raises(ValueError, 'values "f8": choose one of'):
            Gallery.new(self.extractor, values="f8")
        with self.raises(ValueError, 'index "tree": choose auto'):
            gallery.index("tree")
        many = numpy.ones((9000, gallery.dim))
        many[8000, 3] = numpy.inf
        with self.raises(ValueError, "the embedding holds a value that is not finite"):
            gallery.add_embeddings(many, ["new"] * 9000)
        self.assertEqual(gallery.to_bytes(), before)
        with self.raises(FileNotFoundError, "there is no such file or folder; give a gallery"):
            Gallery.open(self.folder / "nowhere.bin")
        with self.raises(ValueError, "not a gallery file"):
            Gallery.from_bytes(b"text, but long enough for a header of a gallery, or so one should think")
        with self.raises(ValueError, "is there already and is no gallery"):
            gallery.save(next(self.photos.rglob("*.png")))
        with self.raises(OSError, "this is a folder"):
            gallery.save(self.folder)

    def test_a_gallery_is_searched_while_it_changes(self):
        gallery = Gallery.open(self.file)
        rows = gallery.to_numpy()[0]
        failed = []

        def search():
            for _ in range(50):
                for answer in gallery.search(rows, 2):
                    if len(answer.matches) != 2:
                        failed.append(answer)

        searches = [threading.Thread(target=search) for _ in range(3)]
        for thread in searches:
            thread.start()
        for number in range(20):
            gallery.add_embeddings(rows[:1], [f"new {number}"])
        for thread in searches:
            thread.join()
        self.assertEqual((failed, len(gallery)), ([], 40))

    def test_no_change_gets_lost_between_the_steps_of_another(self):
        gallery = Gallery.open(self.file)
        rows = gallery.to_numpy()[0]

        def learn():
            for _ in range(5):
                gallery.calibrate(even_if_poor=True)

        learning = threading.Thread(target=learn)
        learning.start()
        for number in range(60):
            gallery.add_embeddings(rows[:1], [f"new {number}"])
        learning.join()
        self.assertEqual(len(gallery), 80)

    def test_embeddings_and_labels_are_those_of_one_moment(self):
        gallery = Gallery.open(self.file)
        rows = gallery.to_numpy()[0]
        done = threading.Event()

        def change():
            while not done.is_set():
                gallery.add_embeddings(rows, ["new"] * len(rows))
                gallery.remove("new")

        changing = threading.Thread(target=change)
        changing.start()
        several = [gallery.to_numpy() for _ in range(2000)]
        done.set()
        changing.join()
        lengths = {(len(embeddings), len(labels)) for embeddings, labels in several}
        self.assertLessEqual(lengths, {(20, 20), (40, 40)})

    @unittest.skipIf(os.name == "nt", "signals of Unix")
    def test_a_signals_handler_may_change_a_gallery_that_is_searched(self):
        draw = numpy.random.RandomState(3)
        rows = draw.normal(size=(20000, 16))
        gallery = Gallery.from_numpy(rows[:2000], [f"c{place % 50}" for place in range(2000)], model="mine")
        seen = []

        def touch():
            seen.append(len(gallery))
            label = gallery.classes[0].label
            gallery.rename(label, label[1:] if label.startswith("x") else "x" + label)

        end = time.monotonic() + 60
        with signals(touch):
            while len(seen) < 20 and time.monotonic() < end:
                self.assertEqual(len(gallery.search(rows)), 20000)
        self.assertEqual(set(seen), {2000})
        self.assertGreaterEqual(len(seen), 20)

    @unittest.skipIf(os.name == "nt", "signals of Unix")
    def test_a_signals_handler_may_read_a_gallery_that_this_thread_changes(self):
        gallery = Gallery.open(self.file)
        pictures = [thing(kind, 100 + number, 200) for kind in range(4) for number in range(60)]
        seen, refused = [], []

        def touch():
            seen.append((len(gallery), gallery.to_dict()["entries"], len(gallery.to_numpy()[1])))
            for change in (
                lambda: gallery.rename(gallery.classes[0].label, "Zero"),
                lambda: setattr(gallery, "min_similarity", 0.5),
            ):
                try:
                    change()
                except RuntimeError as error:
                    refused.append(str(error))

        with signals(touch):
            self.assertEqual(gallery.add("new", pictures, self.extractor, learn=False), [])
        self.assertEqual(len(gallery), 260)
        self.assertIn((20, 20, 20), seen)
        self.assertGreaterEqual(len(refused), 2)
        self.assertIn("this thread is changing the gallery already", refused[0])
        gallery.rename("new", "old")
        self.assertIn("old", gallery)

    def test_a_gallery_of_arrays_has_what_arrays_do_not_hold_of_another(self):
        gallery = Gallery.open(self.file)
        label = gallery.classes[1].label
        gallery.describe(label, {"price": "9 €"}, min_similarity=0.5)
        gallery.min_similarity = 0.25
        embeddings, labels = gallery.to_numpy()
        plain = Gallery.from_numpy(embeddings, labels, model=gallery.model)
        self.assertEqual((plain.min_similarity, plain.classes[1].metadata), (None, {}))
        again = Gallery.from_numpy(embeddings, labels, like=gallery)
        self.assertEqual((again.model, again.crop, again.min_similarity), (gallery.model, gallery.crop, 0.25))
        self.assertEqual(again.classes, gallery.classes)
        middle = Gallery.new(self.extractor, crop="middle")
        self.assertEqual(Gallery.from_numpy(embeddings, labels, like=middle).crop, "middle")
        # Behind a map similarities are others.
        gallery.adapt(kind="whitening", strength=0.5)
        if gallery.map is not None:
            again = Gallery.from_numpy(embeddings, labels, like=gallery)
            self.assertEqual((again.min_similarity, again.classes[1].min_similarity), (None, None))
            self.assertEqual(again.classes[1].metadata, {"price": "9 €"})

    def test_sentences_speak_of_arguments(self):
        draw = numpy.random.RandomState(5)
        gallery = Gallery.from_numpy(draw.normal(size=(200, 16)), [f"c{at % 20}" for at in range(200)], model="mine")
        with self.assertRaises(ValueError) as caught:
            gallery.calibrate()
        self.assertIn("; even_if_poor keeps it all the same", str(caught.exception))
        self.assertNotIn("--", str(caught.exception))

    @unittest.skipIf(os.name == "nt", "signals of Unix")
    def test_ctrl_c_ends_a_long_calibration_within_a_second(self):
        draw = numpy.random.RandomState(9)
        means = numpy.repeat(draw.normal(size=(4000, 256)), 10, axis=0)
        rows = means + draw.normal(size=means.shape)
        gallery = Gallery.from_numpy(rows, [f"c{at // 10}" for at in range(len(rows))], model="mine", index="flat")
        before = gallery.to_bytes()
        pressed = []

        def press():
            pressed.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        timer = threading.Timer(1.5, press)
        timer.start()
        try:
            with self.assertRaises(KeyboardInterrupt):
                gallery.calibrate(even_if_poor=True)
                # So that a calibration that was too short fails here, and not later.
                timer.join()
                self.fail("nothing was left to stop")
        finally:
            timer.cancel()
        self.assertLess(time.monotonic() - pressed[0], 1.0)
        self.assertEqual(gallery.to_bytes(), before)


if __name__ == "__main__":
    unittest.main()
