"""The module is what its types say, imports little, and never panics."""

import ast
import inspect
import subprocess
import sys
import unittest
from pathlib import Path

import magpie_recognizer
from magpie_recognizer import _native
from world import World

PACKAGE = Path(magpie_recognizer.__file__).parent


def public(names):
    return {
        name for name in names if not name.startswith("_") or name in ("__version__", "__array_interface__", "__len__")
    }


class Stubs(unittest.TestCase):
    def test_every_name_of_the_compiled_part_is_in_the_stub_and_the_other_way_round(self):
        stub = ast.parse((PACKAGE / "_native.pyi").read_text(encoding="utf-8"))
        told = {}
        for node in stub.body:
            if isinstance(node, ast.ClassDef):
                told[node.name] = {part.name: part for part in node.body if isinstance(part, ast.FunctionDef)}
            elif isinstance(node, ast.FunctionDef):
                told[node.name] = node
            elif isinstance(node, ast.AnnAssign):
                told[node.target.id] = None
        self.assertEqual(set(told), public(vars(_native)))
        for name, parts in told.items():
            there = getattr(_native, name)
            if isinstance(parts, ast.FunctionDef):
                self.assertEqual(self.names(parts), list(inspect.signature(there).parameters), name)
            elif parts is not None:
                self.assertEqual(public(parts), public(vars(there)), name)
                for method, part in parts.items():
                    own = inspect.getattr_static(there, method)
                    if method == "__new__":
                        own = there
                    if part.decorator_list and part.decorator_list[0].id == "property":
                        self.assertTrue(inspect.isdatadescriptor(own), f"{name}.{method}")
                        continue
                    if method == "__len__":
                        continue
                    wanted = [word for word in self.names(part) if word not in ("self", "cls")]
                    have = [
                        word
                        for word in inspect.signature(
                            getattr(there, method) if method != "__new__" else there
                        ).parameters
                    ]
                    self.assertEqual(wanted, [word for word in have if word != "self"], f"{name}.{method}")

    @staticmethod
    def names(function):
        return [argument.arg for argument in function.args.args]

    def test_every_public_name_has_words_and_types(self):
        self.assertTrue((PACKAGE / "py.typed").is_file())
        self.assertEqual(sorted(magpie_recognizer.__all__), magpie_recognizer.__all__)
        for name in magpie_recognizer.__all__:
            there = getattr(magpie_recognizer, name)
            if inspect.isclass(there):
                self.assertTrue(there.__doc__, name)
                for method, part in vars(there).items():
                    if inspect.isfunction(part) and not method.startswith("_"):
                        self.assertTrue(part.__doc__ or hasattr(part, "__wrapped__"), f"{name}.{method}")
            elif inspect.isfunction(there):
                self.assertTrue(there.__doc__ and there.__annotations__["return"], name)


class Module(World):
    def run_python(self, text, *options):
        words = [sys.executable, *options, "-c", text]
        return subprocess.run(words, capture_output=True, text=True, cwd=self.folder)

    def test_it_is_there_without_numpy_and_pillow(self):
        text = (
            "import sys; sys.modules['numpy'] = sys.modules['PIL'] = None\n"
            "from magpie_recognizer import Extractor, Gallery\n"
            "extractor = Extractor.open(); print(extractor.dim, len(Gallery.new(extractor)))\n"
            "try: extractor.embed(b'text')\n"
            "except ValueError as error: print(error)\n"
            "from magpie_recognizer._results import array\n"
            "try: array(None)\n"
            "except ModuleNotFoundError as error: print(error)\n"
        )
        ended = self.run_python(text)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        self.assertIn("the picture: not a picture", ended.stdout)
        self.assertIn("pip install numpy", ended.stdout)

    def test_the_command_is_in_it(self):
        ended = subprocess.run([sys.executable, "-m", "magpie_recognizer", "--version"], capture_output=True, text=True)
        self.assertEqual((ended.returncode, ended.stdout), (0, f"magpie {magpie_recognizer.__version__}\n"))
        ended = subprocess.run(
            [sys.executable, "-m", "magpie_recognizer", "gallery", "lst"], capture_output=True, text=True
        )
        self.assertEqual(ended.returncode, 2)
        self.assertIn("unrecognized subcommand", ended.stderr)
        ended = subprocess.run(
            [sys.executable, "-m", "magpie_recognizer", "gallery", "list", "nowhere"], capture_output=True, text=True
        )
        self.assertEqual(ended.returncode, 1)
        self.assertIn("error: nowhere: there is no such file", ended.stderr)

    def test_what_a_callback_raises_comes_out_of_a_command(self):
        def hear(kind, text, done, of):
            raise LookupError(f"{kind}: {text[:6]}")

        with self.raises(LookupError, "answer: binary"):
            _native.call(["train", "--list-recipes"], hear)
        heard = []
        _native.call(["train", "--list-recipes"], lambda *what: heard.append(what))
        self.assertGreater(len(heard), 10)
        with self.raises(ValueError, "unrecognized subcommand 'fly'"):
            _native.call(["fly"], print)

    def test_bytes_of_no_kind_are_errors_and_no_panics(self):
        from magpie_recognizer import Extractor, Gallery

        gallery = Gallery.new(Extractor.open())
        data = gallery.to_bytes()
        for place in range(0, len(data), 7):
            broken = data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :]
            for given in (broken, data[:place]):
                try:
                    Gallery.from_bytes(given)
                except ValueError:
                    pass
        for shape in ((-1, 4), (0, 0), (4, 0)):
            with self.assertRaises((ValueError, OverflowError)):
                _native.Extractor.open("general").embed([("pixels", "x", *shape, 3, b"")])
        with self.raises(ValueError, "5 bytes do not make 2×2 pixels"):
            _native.Extractor.open("general").embed([("pixels", "x", 2, 2, 4, b"12345")])
        with self.raises(ValueError, "12 bytes are no rows of"):
            gallery._native.search(b"123456789012", 1, None)
        with self.raises(ValueError, "values, not 0"):
            _native.Gallery(0, "m", "f16", "never")


if __name__ == "__main__":
    unittest.main()
