"""Has another implementation (cryptography, over OpenSSL 4) judge what is made with ML-DSA: every signature of a
hierarchy, its revocation list and its OCSP answer, and the key that is written as a seed (RFC 9881).

    ml_dsa_check.py FOLDER      with root.pem, sub.pem, leaf.pem, leaf.key, root.crl, sub.crl and good.ocsp
"""

import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import ocsp

folder = Path(sys.argv[1])
root, sub, leaf = (
    x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes()) for name in ("root", "sub", "leaf")
)
root.verify_directly_issued_by(root)
sub.verify_directly_issued_by(root)
leaf.verify_directly_issued_by(sub)
try:
    leaf.verify_directly_issued_by(root)
    raise SystemExit("the leaf verifies under the root, which did not sign it")
except (ValueError, TypeError):
    pass
for name, issuer in (("root", root), ("sub", sub)):
    crl = x509.load_der_x509_crl((folder / f"{name}.crl").read_bytes())
    if not crl.is_signature_valid(issuer.public_key()):
        raise SystemExit(f"{name}.crl does not verify")
answer = ocsp.load_der_ocsp_response((folder / "good.ocsp").read_bytes())
if answer.certificate_status is not ocsp.OCSPCertStatus.GOOD:
    raise SystemExit(f"the answer says {answer.certificate_status}")
sub.public_key().verify(answer.signature, answer.tbs_response_bytes)
key = serialization.load_pem_private_key((folder / "leaf.key").read_bytes(), None)
encoded = [
    of.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    for of in (key.public_key(), leaf.public_key())
]
if encoded[0] != encoded[1]:
    raise SystemExit("leaf.key is not the key of leaf.pem")
