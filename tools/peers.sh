#!/bin/sh
# Programs that the tests use as independent peers. Debian's packages, installed when this
# machine lets us; otherwise one line says what is missing and the tests that need it say so too.
set -eu
missing=""
command -v storescu >/dev/null || missing="$missing dcmtk"
command -v Orthanc >/dev/null || missing="$missing orthanc orthanc-dicomweb"
command -v dciodvfy >/dev/null || missing="$missing dicom3tools"
command -v chromium >/dev/null || missing="$missing chromium fonts-dejavu-core"
command -v pdftotext >/dev/null || missing="$missing poppler-utils"
[ -n "$missing" ] || exit 0
if command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    printf '\033[1m==> test peers:%s\033[0m\n' "$missing"
    apt-get update -qq
    # shellcheck disable=SC2086  # a list of package names
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "not installed:$missing (the tests that need them are skipped and say so;"
    echo "  Debian/Ubuntu: sudo apt-get install$missing)"
fi
