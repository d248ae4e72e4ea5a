"""Packs what `cargo xtask dist` hands out. The same files give the same bytes.

pack.py zip FOLDER FILE                 a folder as a zip file
pack.py wheel PACKAGE MODULE VERSION TAG LICENSES... --out FOLDER
                                        a wheel of a package with its compiled part, and a command
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


def pack_wheel(package, module, version, tag, licenses, out):
    name = f"magpie_recognizer-{version}"
    info = f"{name}.dist-info"
    # Of the stable interface: one for every Python from 3.9 on.
    tag = f"cp39-abi3-{tag}"
    native = "_native.pyd" if module.endswith(".dll") else "_native.abi3.so"
    metadata = (
        "Metadata-Version: 2.4\n"
        "Name: magpie-recognizer\n"
        f"Version: {version}\n"
        "Summary: Image recognition that ships as static files: recognizer, gallery, trainer and the magpie command\n"
        "License-Expression: MIT OR Apache-2.0\n"
        + "".join(f"License-File: {os.path.basename(path)}\n" for path in licenses)
        + "Requires-Python: >=3.9\n"
        "Provides-Extra: numpy\n"
        "Requires-Dist: numpy>=1.21; extra == 'numpy'\n"
        "Classifier: Typing :: Typed\n"
        "Description-Content-Type: text/plain\n\n"
        "`magpie site photos --out site` makes a page that recognizes your things, and so does\n"
        "`magpie_recognizer.site(\"photos\", \"site\")`. Embeddings are arrays of NumPy, where that is installed.\n"
    )
    wheel = f"Wheel-Version: 1.0\nGenerator: magpie\nRoot-Is-Purelib: false\nTag: {tag}\n"
    commands = "[console_scripts]\nmagpie = magpie_recognizer.__main__:main\n"
    path = os.path.join(out, f"{name}-{tag}.whl")
    with zipfile.ZipFile(path, "w") as archive:
        record = [
            add(archive, f"magpie_recognizer/{file}", read(os.path.join(package, file)))
            for file in sorted(os.listdir(package))
            if file.endswith((".py", ".pyi", ".typed"))
        ]
        record.append(add(archive, f"magpie_recognizer/{native}", read(module), 0o755))
        for license in licenses:
            record.append(
                add(archive, f"{info}/licenses/{os.path.basename(license)}", read(license))
            )
        record.append(add(archive, f"{info}/METADATA", metadata.encode()))
        record.append(add(archive, f"{info}/WHEEL", wheel.encode()))
        record.append(add(archive, f"{info}/entry_points.txt", commands.encode()))
        record.append(f"{info}/RECORD,,")
        add(archive, f"{info}/RECORD", ("\n".join(record) + "\n").encode())
    print(path)


def main(words):
    if words[:1] == ["zip"] and len(words) == 3:
        pack_folder(words[1], words[2])
    elif words[:1] == ["wheel"] and len(words) > 7 and words[-2] == "--out":
        pack_wheel(words[1], words[2], words[3], words[4], words[5:-2], words[-1])
    else:
        sys.exit(__doc__)


main(sys.argv[1:])
