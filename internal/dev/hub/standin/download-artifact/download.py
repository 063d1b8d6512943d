"""Finds artifacts by the API and unpacks them."""

import fnmatch
import io
import json
import os
import sys
import urllib.error
import urllib.request
import zipfile


class WithoutToken(urllib.request.HTTPRedirectHandler):
    """The address of the bytes carries its own secret: it gets no token."""

    def redirect_request(self, request, *rest):
        after = super().redirect_request(request, *rest)
        after.remove_header("Authorization")
        return after


def get(url, token):
    request = urllib.request.Request(url)
    request.add_header("Authorization", "Bearer " + token)
    try:
        with urllib.request.build_opener(WithoutToken).open(request, timeout=60) as answer:
            return answer.read()
    except urllib.error.HTTPError as refused:
        print(f"::error::{url}: {refused.code} {refused.read().decode(errors='replace')[:500]}")
        sys.exit(1)


def main():
    env = os.environ
    run, token = env["INPUT_RUN_ID"], env["INPUT_GITHUB_TOKEN"]
    if run and not token:
        print("::error::another run's artifacts need github-token")
        sys.exit(1)
    repository = env["INPUT_REPOSITORY"] or env["GITHUB_REPOSITORY"]
    base = f"{env['GITHUB_API_URL']}/repos/{repository}/actions/runs/{run or env['GITHUB_RUN_ID']}/artifacts?per_page=100"
    token = token or env["INPUT_OWN_TOKEN"]
    name, pattern = env["INPUT_NAME"], env["INPUT_PATTERN"]
    found, page = [], 1
    while True:
        some = json.loads(get(f"{base}&page={page}", token))["artifacts"]
        found += some
        if len(some) < 100:
            break
        page += 1
    if name:
        found = [a for a in found if a["name"] == name]
        if not found:
            print(f"::error::Artifact not found for name: {name}")
            sys.exit(1)
    elif pattern:
        found = [a for a in found if fnmatch.fnmatchcase(a["name"], pattern)]
    for artifact in found:
        folder = env["INPUT_PATH"] or "."
        if not name and env["INPUT_MERGE_MULTIPLE"] != "true":
            folder = os.path.join(folder, artifact["name"])
        os.makedirs(folder, exist_ok=True)
        with zipfile.ZipFile(io.BytesIO(get(artifact["archive_download_url"], token))) as archive:
            archive.extractall(folder)  # drops absolute names and ..
        print(f"artifact {artifact['name']}: {folder}")


main()
