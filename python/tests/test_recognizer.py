"""Pictures are recognized, found and embedded as by the command."""

import io
import json
import os
import signal
import threading
import time
import unittest

import numpy
from magpie_recognizer import Detector, Extractor, Gallery, Recognizer, site
from PIL import Image
from world import DETECTOR, EXTRACTOR, World, answers, command, page, photos, signals, thing


class Recognized(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.photos = photos(cls.folder / "photos")
        cls.site = cls.folder / "site"
        site(cls.photos, cls.site, page=page(cls.folder), title="Things")
        cls.recognizer = Recognizer.open(cls.site)
        cls.path = cls.photos / "thing 2 类" / "3.png"
        cls.pixels = numpy.asarray(Image.open(cls.path).convert("RGB"))

    def test_an_answer_is_that_of_the_command_bit_for_bit(self):
        several = [self.photos / f"thing {kind} 类" / "1.png" for kind in range(4)]
        for found, told in zip(self.recognizer.recognize(several), answers("recognize", self.site, *several, "--json")):
            own = found.to_dict()
            self.assertEqual(set(own.pop("timings_ms")), set(told.pop("timings_ms")))
            self.assertEqual(own, told)
            thing = found[0]
            self.assertEqual([*thing.box[:4]], told["objects"][0]["bbox"])
            self.assertEqual(thing.box.score, told["objects"][0]["detection_score"])
            self.assertEqual(thing.embedding.tolist(), told["objects"][0]["embedding"])
            self.assertEqual(thing.probability, told["objects"][0]["probability"])
            self.assertEqual(thing.known, told["objects"][0]["known"])
            self.assertEqual([match._asdict() for match in thing.matches], told["objects"][0]["matches"])
        self.assertEqual(self.recognizer.recognize(self.path)[0].label, "thing 2 类")

    def test_paths_bytes_pil_and_numpy_are_one_picture(self):
        data = self.path.read_bytes()
        rgba = numpy.dstack([self.pixels, numpy.full(self.pixels.shape[:2], 255, numpy.uint8)])
        turned = numpy.asfortranarray(self.pixels)
        with Image.open(self.path) as opened:
            opened.load()
            given = [
                self.path,
                str(self.path),
                data,
                bytearray(data),
                memoryview(data),
                opened,
                opened.convert("RGBA"),
                self.pixels,
                turned,
                self.pixels[:, ::-1][:, ::-1],
                self.pixels[..., ::-1][..., ::-1],
                rgba,
            ]
            results = [self.recognizer.recognize(picture) for picture in given]
            results += self.recognizer.recognize(given)
        for result in results:
            self.assertEqual(result, results[0])
            self.assertTrue((result[0].embedding == results[0][0].embedding).all())
        batch = numpy.stack([self.pixels] * 2)
        self.assertEqual(self.recognizer.recognize(batch), results[:2])
        self.assertEqual(self.recognizer.recognize(iter([data, data])), results[:2])
        self.assertEqual(self.recognizer.recognize([]), [])

    def test_gray_and_palettes_are_what_the_command_decodes(self):
        gray = Image.fromarray(self.pixels).convert("L")
        palette = Image.fromarray(self.pixels).convert("P")
        for image in (gray, palette, palette.convert("RGBA"), gray.convert("1")):
            file = io.BytesIO()
            image.save(file, "PNG")
            expected = self.recognizer.embed(file.getvalue())
            self.assertTrue((self.recognizer.embed(image) == expected).all(), image.mode)
        # One color is clear: it lies on white, as in the file.
        clear = Image.fromarray((self.pixels // 64) * 64)
        for image, of in (
            (clear, clear.getpixel((0, 0))),
            (clear.convert("L"), clear.convert("L").getpixel((0, 0))),
            (clear.convert("P"), clear.convert("P").getpixel((0, 0))),
        ):
            opaque = self.recognizer.embed(image)
            image.info["transparency"] = of
            file = io.BytesIO()
            image.save(file, "PNG", transparency=of)
            expected = self.recognizer.embed(file.getvalue())
            self.assertTrue((self.recognizer.embed(image) == expected).all(), image.mode)
            self.assertTrue((self.recognizer.embed(Image.open(file)) == expected).all(), image.mode)
            self.assertFalse((opaque == expected).all(), image.mode)
        values = numpy.asarray(gray)
        expected = self.recognizer.embed(gray)
        self.assertTrue((self.recognizer.embed(values) == expected).all())
        self.assertTrue((self.recognizer.embed(values[..., None]) == expected).all())

    def test_embeddings_are_those_of_extract_and_are_not_copied(self):
        extractor = Extractor.open(EXTRACTOR)
        out = self.folder / "embeddings.safetensors"
        command("extract", "--extractor", EXTRACTOR, "--images", self.photos, "--out", out)
        data = out.read_bytes()
        length = int.from_bytes(data[:8], "little")
        about = json.loads(data[8 : 8 + length])["embeddings"]
        start, end = about["data_offsets"]
        expected = numpy.frombuffer(data[8 + length :][start:end], "<f4").reshape(about["shape"])
        names = [line.split("\t")[0] for line in out.with_suffix(".tsv").read_text().splitlines()]
        paths = sorted(self.photos.rglob("*.png"))
        self.assertEqual(len(names), len(paths))
        embeddings = extractor.embed(paths)
        self.assertEqual((embeddings.dtype, embeddings.shape), (numpy.float32, (20, extractor.dim)))
        self.assertEqual(embeddings.tolist(), expected.tolist())
        self.assertFalse(embeddings.flags["OWNDATA"] or embeddings.flags["W"])
        one = extractor.embed(paths[7])
        self.assertEqual(one.tolist(), expected[7].tolist())
        self.assertEqual(numpy.asarray(one).__array_interface__["data"][0], one.__array_interface__["data"][0])
        # The array holds what it looks at.
        del extractor
        kept = embeddings[3].copy()
        self.assertTrue((embeddings[3] == kept).all())

    def test_boxes_are_those_of_detect(self):
        detector = Detector.open(DETECTOR)
        told = answers("detect", "--detector", DETECTOR, "--score", "0.01", "--max", "9", self.path, "--json")[0]
        boxes = detector.detect(self.path, score=0.01, max=9)
        self.assertEqual(len(boxes), 9)
        self.assertEqual([[*box[:4]] for box in boxes], [found["bbox"] for found in told["objects"]])
        self.assertEqual([box.score for box in boxes], [found["score"] for found in told["objects"]])
        self.assertEqual(detector.detect([self.pixels] * 2, score=0.01, max=9), [boxes] * 2)
        self.assertEqual(self.recognizer.detect(self.path), [])
        self.assertFalse(self.recognizer.has_detector)
        gallery = Gallery.build(self.photos, extractor=EXTRACTOR, crop="never")
        parts = Recognizer.of(gallery, extractor=EXTRACTOR, detector=DETECTOR)
        self.assertTrue(parts.has_detector)
        self.assertEqual(parts.detect([self.path])[0], [b for b in detector.detect(self.path, max=20)])
        self.assertEqual(len(parts.recognize(self.path)), max(1, len(parts.detect(self.path))))

    def test_parts_answer_as_the_site_of_them(self):
        gallery = Gallery.open(f"{self.site}.report/gallery.bin")
        parts = Recognizer.of(gallery)
        self.assertEqual(parts.recognize(self.path), self.recognizer.recognize(self.path))
        self.assertEqual(self.recognizer.title, "Things")
        copy = self.recognizer.gallery
        self.assertEqual(len(copy), 20)
        copy.remove("thing 2 类")
        self.assertEqual(len(self.recognizer.gallery), 20)
        parts.use_gallery(copy)
        labels = [match.label for match in parts.recognize(self.path)[0].matches]
        self.assertEqual(len(labels), 3)
        self.assertNotIn("thing 2 类", labels)

    def test_errors_are_pythons_kinds_with_the_commands_sentences(self):
        nowhere = self.folder / "nowhere.png"
        said = command("recognize", self.site, nowhere, fails=True)
        with self.raises(FileNotFoundError, "there is no such file or folder"):
            try:
                self.recognizer.recognize(nowhere)
            except FileNotFoundError as error:
                self.assertIn(str(error), said)
                raise
        with self.raises(OSError, "is a folder"):
            self.recognizer.recognize(self.folder)
        with self.raises(FileNotFoundError, "there is no such file or folder; give the folder that"):
            Recognizer.open(self.folder / "no site")
        with self.raises(ValueError, "the picture: not a picture of a known format"):
            self.recognizer.recognize(b"text")
        with self.raises(ValueError, "picture 2 of 2: damaged or unreadable picture"):
            self.recognizer.recognize([self.path, self.path.read_bytes()[:200]])
        with self.raises(TypeError, "the picture: int is no picture"):
            self.recognizer.recognize(7)
        with self.raises(TypeError, "picture 2 of 2: NoneType is no picture"):
            self.recognizer.recognize([self.path, None])
        with self.raises(TypeError, "an array of float64; give uint8"):
            self.recognizer.embed(self.pixels / 255)
        with self.raises(ValueError, "an array of shape (72, 72, 2)"):
            self.recognizer.embed(self.pixels[..., :2])
        with self.raises(ValueError, "an array of shape (3,)"):
            self.recognizer.embed(self.pixels[0, 0])
        with self.raises(ValueError, "an array of shape ()"):
            self.recognizer.embed(numpy.array(7, numpy.uint8))
        with self.raises(ValueError, "0 bytes do not make 0×4 pixels"):
            self.recognizer.embed(numpy.zeros((4, 0, 3), numpy.uint8))
        with self.raises(ValueError, "more than 8 bits"):
            self.recognizer.embed(Image.fromarray(numpy.zeros((4, 4), numpy.float32)))
        with self.raises(ValueError, "there is no bundle (no manifest.json)"):
            Recognizer.open(self.folder)
        with self.raises(FileNotFoundError, "give a model file"):
            Extractor.open(nowhere)
        with self.raises(ValueError, "this is a detector, not an extractor"):
            Extractor.open(DETECTOR)
        with self.raises(ValueError, "belongs to another model"):
            Recognizer.of(Gallery.open(f"{self.site}.report/gallery.bin"), extractor=EXTRACTOR)
        with self.raises(ValueError, "score: 2; give 0 to 1"):
            Detector.open(DETECTOR).detect(self.path, score=2)

    def test_other_threads_run_while_pictures_are_looked_at(self):
        pictures = [thing(kind, 40 + number, 400) for kind in range(4) for number in range(10)]
        alone = self.recognizer.recognize(pictures)
        done, steps = threading.Event(), 0
        results = {}

        def work(name):
            results[name] = self.recognizer.recognize(pictures)
            done.set()

        worker = threading.Thread(target=work, args=("one",))
        start = time.monotonic()
        worker.start()
        # With Python's lock held this thread would get no turn until the end.
        while not done.is_set():
            steps += 1
            time.sleep(0.001)
        worker.join()
        self.assertGreater(steps, 20, f"in {time.monotonic() - start:.2f} s")
        workers = [threading.Thread(target=work, args=(name,)) for name in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        for name in range(3):
            self.assertEqual(results[name], alone)

    @unittest.skipIf(os.name == "nt", "signals of Unix")
    def test_ctrl_c_ends_a_long_batch(self):
        pictures = [thing(0, 1, 500)] * 4000
        timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        start = time.monotonic()
        timer.start()
        with self.raises(KeyboardInterrupt, ""):
            self.recognizer.embed(pictures)
        self.assertLess(time.monotonic() - start, 10)
        timer.join()

    @unittest.skipIf(os.name == "nt", "signals of Unix")
    def test_a_signals_handler_may_give_another_gallery_to_a_recognizer_at_work(self):
        gallery = Gallery.build(self.photos, extractor=EXTRACTOR, crop="never")
        parts = Recognizer.of(gallery, extractor=EXTRACTOR, detector=DETECTOR)
        pictures = [thing(kind, number, 300) for kind in range(4) for number in range(40)]
        seen = []

        def touch():
            parts.use_gallery(gallery)
            seen.append(len(parts.gallery))

        for work in (parts.detect, parts.embed, parts.recognize):
            alone = work(pictures)
            seen.clear()
            end = time.monotonic() + 60
            with signals(touch):
                while len(seen) < 5 and time.monotonic() < end:
                    found = work(pictures)
            self.assertEqual(numpy.array_equal(found, alone) if work == parts.embed else found == alone, True)
            self.assertGreaterEqual(len(seen), 5)
            self.assertEqual(set(seen), {20})


if __name__ == "__main__":
    unittest.main()
