"""Packs what `cargo xtask dist` hands out. The same files give the same bytes.

pack.py zip FOLDER FILE                 a folder as a zip file
pack.py wheel PROGRAM VERSION TAG LICENSES... --out FOLDER
                                        a wheel that brings a program along
"""

import base64
import hashlib
import os
import sys
import zipfile

# The first time that a zip file can hold.
TIME = (1980, 1, 1, 0, 0, 0)


def add(archive, name, data, mode=0o644):
    """A file with a fixed time; its line of a wheel's RECORD."""
    entry = zipfile.ZipInfo(name, TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3
    entry.external_attr = (0o100000 | mode) << 16
    archive.writestr(entry, data, compresslevel=9)
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(data)}"


def read(path):
    with open(path, "rb") as file:
        return file.read()


def pack_folder(folder, out):
    with zipfile.ZipFile(out, "w") as archive:
        for place, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.startswith("."):
                    continue
                path = os.path.join(place, name)
                add(archive, os.path.relpath(path, folder).replace(os.sep, "/"), read(path))


def pack_wheel(program, version, tag, licenses, out):
    name = f"magpie_recognizer-{version}"
    info = f"{name}.dist-info"
    suffix = ".exe" if program.endswith(".exe") else ""
    metadata = (
        "Metadata-Version: 2.4\n"
        "Name: magpie-recognizer\n"
        f"Version: {version}\n"
        "Summary: Image recognition that ships as static files: the magpie command\n"
        "License-Expression: MIT OR Apache-2.0\n"
        + "".join(f"License-File: {os.path.basename(path)}\n" for path in licenses)
        + "Requires-Python: >=3.8\n"
        "Description-Content-Type: text/plain\n\n"
        "Brings the `magpie` command: `magpie site photos --out site` makes a page that recognizes your things.\n"
    )
    wheel = f"Wheel-Version: 1.0\nGenerator: magpie\nRoot-Is-Purelib: false\nTag: py3-none-{tag}\n"
    path = os.path.join(out, f"{name}-py3-none-{tag}.whl")
    with zipfile.ZipFile(path, "w") as archive:
        record = [add(archive, f"{name}.data/scripts/magpie{suffix}", read(program), 0o755)]
        for license in licenses:
            record.append(
                add(archive, f"{info}/licenses/{os.path.basename(license)}", read(license))
            )
        record.append(add(archive, f"{info}/METADATA", metadata.encode()))
        record.append(add(archive, f"{info}/WHEEL", wheel.encode()))
        record.append(f"{info}/RECORD,,")
        add(archive, f"{info}/RECORD", ("\n".join(record) + "\n").encode())
    print(path)


def main(words):
    if words[:1] == ["zip"] and len(words) == 3:
        pack_folder(words[1], words[2])
    elif words[:1] == ["wheel"] and len(words) > 6 and words[-2] == "--out":
        pack_wheel(words[1], words[2], words[3], words[4:-2], words[-1])
    else:
        sys.exit(__doc__)


main(sys.argv[1:])
