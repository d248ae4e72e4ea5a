"""Tries the installed wheel: the module answers as the program does, to the last bit.

try_wheel.py PROGRAM PHOTOS SITE        PROGRAM is the native one, SITE was made by the wheel's command of PHOTOS
"""

import json
import os
import subprocess
import sys

import magpie_recognizer
from magpie_recognizer import Gallery, Recognizer, site


def files(folder):
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, folder)] = file.read()
    return found


def main(program, photos, published):
    assert "dist-trial" in os.path.abspath(magpie_recognizer.__file__), magpie_recognizer.__file__
    pictures = [
        path.path for entry in sorted(os.scandir(photos), key=lambda entry: entry.name) for path in os.scandir(entry)
    ]
    pictures = sorted(pictures)[:8]
    told = subprocess.run([program, "recognize", published, *pictures, "--json"], stdout=subprocess.PIPE, check=True)
    told = [json.loads(line) for line in told.stdout.splitlines()]
    own = [result.to_dict() for result in Recognizer.open(published).recognize(pictures)]
    for answer in told + own:
        del answer["timings_ms"]
    assert own == told, "the module answers otherwise than the program"
    site(photos, "site-of-module")
    assert files("site-of-module") == files(published), "the module makes another site than the command"
    gallery = Gallery.open(f"{published}.report/gallery.bin")
    print(f"   {magpie_recognizer.__version__}: {len(pictures)} pictures and a site as by the program; {gallery}")


if len(sys.argv) != 4:
    sys.exit(__doc__)
main(*sys.argv[1:])
