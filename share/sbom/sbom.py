#!/usr/bin/python3
"""Prints what udpproxy is made of, as SPDX 2.3 in JSON: sbom.py VERSION NAME=VERSION=LICENCE=HOW…

HOW is `linked` (a shared library that is loaded at run time) or `compiled` (headers that are part
of the program). SOURCE_DATE_EPOCH is its time of creation, by default now. The document's name
space is made of its contents, so the same parts give the same document.
"""

import datetime
import json
import os
import re
import sys
import time
import uuid

_RELATIONS = {"linked": "DYNAMIC_LINK", "compiled": "CONTAINS"}


def package(name, version, licence):
    return {
        "SPDXID": "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", name),
        "name": name,
        "versionInfo": version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": licence,
        "licenseDeclared": licence,
        "copyrightText": "NOASSERTION",
    }


def main(version, *parts):
    program = package("udpproxy", version, "MIT")
    packages, relations = [program], [("SPDXRef-DOCUMENT", "DESCRIBES", program["SPDXID"])]
    for part in parts:
        name, of, licence, how = part.split("=")
        packages.append(package(name, of, licence))
        relations.append((program["SPDXID"], _RELATIONS[how], packages[-1]["SPDXID"]))
    created = int(os.environ.get("SOURCE_DATE_EPOCH") or time.time())
    space = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(packages))
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"udpproxy-{version}",
        "documentNamespace": f"https://spdx.org/spdxdocs/udpproxy-{version}-{space}",
        "creationInfo": {
            "created": datetime.datetime.fromtimestamp(created, datetime.timezone.utc).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
            "creators": ["Tool: udpproxy-sbom.py"],
        },
        "packages": packages,
        "relationships": [
            {"spdxElementId": left, "relationshipType": kind, "relatedSpdxElement": right}
            for left, kind, right in relations
        ],
    }
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main(*sys.argv[1:])
