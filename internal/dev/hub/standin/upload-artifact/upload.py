"""Zips the files and puts them to the hub."""

import glob
import io
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
import zipfile


def hidden(path, root):
    return any(part.startswith(".") for part in os.path.relpath(path, root).split(os.sep) if part not in (".", ".."))


def files(pattern):
    """Yields each file with the folder that its name in the archive starts at."""
    for found in sorted(glob.glob(pattern, recursive=True)):
        if os.path.isfile(found):
            yield found, os.path.dirname(found)
            continue
        for folder, _, names in sorted(os.walk(found)):
            for name in sorted(names):
                yield os.path.join(folder, name), found


def main():
    name = os.environ["INPUT_NAME"] or "artifact"
    take_hidden = os.environ["INPUT_INCLUDE_HIDDEN_FILES"] == "true"
    buffer = io.BytesIO()
    seen = set()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for line in os.environ["INPUT_PATH"].split("\n"):
            if not line.strip():
                continue
            for path, root in files(line.strip()):
                inside = os.path.relpath(path, root)
                if inside in seen or hidden(path, root) and not take_hidden:
                    continue
                seen.add(inside)
                archive.write(path, inside)
    if not seen:
        what = os.environ["INPUT_IF_NO_FILES_FOUND"] or "warn"
        if what != "ignore":
            print(f"::{'error' if what == 'error' else 'warning'}::No files were found with the provided path: {os.environ['INPUT_PATH']}")
        sys.exit(1 if what == "error" else 0)
    url = os.environ["PENSTOCK_HUB_ARTIFACTS"] + "/" + urllib.parse.quote(name, safe="")
    request = urllib.request.Request(url, data=buffer.getvalue(), method="PUT")
    request.add_header("Authorization", "Bearer " + os.environ["INPUT_TOKEN"])
    request.add_header("Content-Type", "application/zip")
    try:
        urllib.request.urlopen(request, timeout=60).close()
    except urllib.error.HTTPError as refused:
        print(f"::error::artifact {name}: {refused.read().decode().strip()}")
        sys.exit(1)
    print(f"artifact {name}: {len(seen)} files, {len(buffer.getvalue())} bytes")


main()
