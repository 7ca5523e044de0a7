#!/bin/sh
# stripe 16.1.0 (Python): WebhookSignature.verify_header raises a TypeError, not a SignatureVerificationError, if the header's
# signature has a non-ASCII character. Web servers decode headers as Latin-1, so anyone can send one. A view that catches
# the documented errors (ValueError, SignatureVerificationError) returns 500 instead of 400.
#
# The cause is hmac.compare_digest, which compares only ASCII strings.
#
# Seen on 2026-11-29 with Python 3.11:
#   stripe 16.1.0: ff SignatureVerificationError, é TypeError
#
# Usage: findings/stripe-signature-not-ascii-raises-type-error.sh     (Python 3.11 or newer as python3; exit 1 if this has changed)
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" --quiet --disable-pip-version-check install stripe==16.1.0
seen=$("$folder/venv/bin/python" - <<'PYTHON'
import time

import stripe


def refused(signature):
    try:
        stripe.Webhook.construct_event(b"{}", f"t={int(time.time())},v1={signature}", "whsec_secret")
    except Exception as error:
        return f"{signature} {type(error).__name__}"
    return f"{signature} accepted"


print(", ".join(refused(signature) for signature in ("ff", "\xe9")))
PYTHON
)
echo "stripe 16.1.0: $seen"
[ "$seen" = "ff SignatureVerificationError, é TypeError" ] || { echo "changed" >&2; exit 1; }
