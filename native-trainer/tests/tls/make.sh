#!/bin/sh
# Writes the certificates and keys of the tests anew. They are of nobody, and are trusted nowhere but in the tests.
set -e
cd "$(dirname "$0")"
key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1"; }
key key.pem
key other-key.pem
openssl pkcs8 -topk8 -in key.pem -out encrypted-key.pem -passout pass:tests
openssl req -x509 -new -key key.pem -sha256 -days 36500 -subj "/CN=localhost" -out certificate.pem \
  -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -addext "keyUsage=critical,digitalSignature,keyCertSign"
# As it would be renewed, with another key.
openssl req -x509 -new -key other-key.pem -sha256 -days 36500 -subj "/CN=localhost" -out renewed.pem \
  -addext "subjectAltName=DNS:localhost,IP:127.0.0.1" -addext "keyUsage=critical,digitalSignature,keyCertSign"
# One of two days in 2020.
work=$(mktemp -d)
printf '[ca]\ndefault_ca=d\n[d]\ndir=%s\ndatabase=%s/list\nnew_certs_dir=%s\nserial=%s/serial\ndefault_md=sha256\npolicy=p\n[p]\n' \
  "$work" "$work" "$work" "$work" > "$work/ca"
printf 'commonName=supplied\n' >> "$work/ca"
: > "$work/list"
echo 01 > "$work/serial"
openssl req -new -key key.pem -subj "/CN=localhost" -out "$work/request"
openssl ca -batch -config "$work/ca" -selfsign -keyfile key.pem -in "$work/request" -notext -out expired.pem \
  -startdate 20200101000000Z -enddate 20200102030405Z
rm -r "$work"
