"""Has another implementation (cryptography, over OpenSSL 4) judge what is made with ML-DSA: every signature of a
hierarchy, its revocation lists and its OCSP answer, and the key that is written as a seed (RFC 9881).

    ml_dsa_check.py FOLDER CA LEAF [REVOKED]

In FOLDER: root.pem, CA.pem and LEAF.pem, LEAF.key, good.ocsp by the CA or by whom it delegated that to, and every
list, as *.crl (DER) or *.crl.pem. Where REVOKED is named, CA.crl.pem has it and not LEAF.
"""

import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import ExtendedKeyUsageOID

folder, (ca_name, leaf_name, *revoked) = Path(sys.argv[1]), sys.argv[2:]


def certificate(name):
    return x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())


def revocation_list(file):
    octets = file.read_bytes()
    return (x509.load_pem_x509_crl if file.suffix == ".pem" else x509.load_der_x509_crl)(octets)


def demand(holds, otherwise):
    if not holds:
        raise SystemExit(otherwise)


root, ca, leaf = certificate("root"), certificate(ca_name), certificate(leaf_name)
root.verify_directly_issued_by(root)
ca.verify_directly_issued_by(root)
leaf.verify_directly_issued_by(ca)
try:
    leaf.verify_directly_issued_by(root)
    raise SystemExit("the leaf verifies under the root, which did not sign it")
except (ValueError, TypeError):
    pass

issuers = {issuer.subject: issuer for issuer in (root, ca)}
lists = sorted(file for pattern in ("*.crl", "*.crl.pem") for file in folder.glob(pattern))
judged = 0
for file in lists:
    crl = revocation_list(file)
    if crl.issuer in issuers:
        demand(crl.is_signature_valid(issuers[crl.issuer].public_key()), f"{file.name} does not verify")
        judged += 1
demand(judged >= 2, "there are no lists of both")
for name in revoked:
    crl = revocation_list(folder / f"{ca_name}.crl.pem")
    number = certificate(name).serial_number
    demand(crl.get_revoked_certificate_by_serial_number(number), f"the list lacks {name}")
    demand(not crl.get_revoked_certificate_by_serial_number(leaf.serial_number), "the list has the leaf")

answer = ocsp.load_der_ocsp_response((folder / "good.ocsp").read_bytes())
demand(answer.certificate_status is ocsp.OCSPCertStatus.GOOD, f"the answer says {answer.certificate_status}")
signer = ca
for signer in answer.certificates:
    signer.verify_directly_issued_by(ca)
    usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    demand(ExtendedKeyUsageOID.OCSP_SIGNING in usage, "who signed the answer may not")
signer.public_key().verify(answer.signature, answer.tbs_response_bytes)

key = serialization.load_pem_private_key((folder / f"{leaf_name}.key").read_bytes(), None)
encoded = [
    of.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    for of in (key.public_key(), leaf.public_key())
]
demand(encoded[0] == encoded[1], f"{leaf_name}.key is not the key of {leaf_name}.pem")
