"""Reads a log of pkcs11-spy and judges it: no value of a key that stays in the token may be asked for.

    spy.py LOG [CALL...]

What may be read is the value of an object of the session that C_UnwrapKey or C_CreateObject just made (that is how
CKM_AES_KEY_WRAP_PAD gives a key back). Ends with 1 and the calls if anything else is read, if a key is made that
could be read, or if the log shows too little to judge by: if one of the CALLs (by default those of all ways to wrap) is
not in it.
"""
import re
import sys

SECRET = {
    "CKA_VALUE", "CKA_PRIVATE_EXPONENT", "CKA_PRIME_1", "CKA_PRIME_2", "CKA_EXPONENT_1", "CKA_EXPONENT_2",
    "CKA_COEFFICIENT", "CKA_SEED",
}
CALL = re.compile(r"^(\d+): (C_\w+)$")
ATTRIBUTE = re.compile(r"^\s+(CKA_\w+)\s+(\S+)?")
HANDLE = re.compile(r"^\[(in|out)\] (\*?\w+) = (0x[0-9a-f]+)")


def calls(path):
    """Each call: its number, name, handles by (direction, name), the attributes asked for, whether it went well."""
    call = None
    with open(path, encoding="utf-8", errors="replace") as log:
        for line in log:
            if match := CALL.match(line):
                if call:
                    yield call
                call = {"no": match[1], "name": match[2], "handles": {}, "templates": [], "ok": False}
            elif call is None:
                continue
            elif match := HANDLE.match(line):
                call["handles"][match[1], match[2].lstrip("*")] = match[3]
            elif "emplate[" in line:
                call["templates"].append((line.startswith("[in]"), {}))
            elif (match := ATTRIBUTE.match(line)) and call["templates"]:
                call["templates"][-1][1][match[1]] = match[2]
            elif line.startswith("Returned:"):
                call["ok"] = "CKR_OK" in line
    if call:
        yield call


CALLS = ("C_GenerateKey", "C_GenerateKeyPair", "C_Encrypt", "C_Decrypt", "C_WrapKey", "C_UnwrapKey", "C_Sign")


def judge(path, needed):
    passing, wrong, seen = set(), [], {}
    for call in calls(path):
        name, handles = call["name"], call["handles"]
        asked = [template for is_in, template in call["templates"] if is_in]
        seen[name] = seen.get(name, 0) + call["ok"]

        def blame(what):
            wrong.append(f"call {call['no']} {name}: {what}")

        if name in ("C_CreateObject", "C_UnwrapKey") and call["ok"]:
            made = handles.get(("out", "hKey")) or handles.get(("out", "phObject")) or handles.get(("out", "hObject"))
            if asked and asked[0].get("CKA_TOKEN") == "False":
                passing.add(made)
            else:
                blame("puts a readable key into the token")
        elif name == "C_DestroyObject":
            passing.discard(handles.get(("in", "hObject")))
        elif name == "C_GetAttributeValue":
            values = SECRET.intersection(*asked[:1])
            if values and handles.get(("in", "hObject")) not in passing:
                blame(f"asks object {handles.get(('in', 'hObject'))} for {', '.join(sorted(values))}")
        elif name == "C_WrapKey" and handles.get(("in", "hKey")) not in passing:
            blame("takes a key out of the token, wrapped")
        elif name in ("C_GenerateKey", "C_GenerateKeyPair"):
            secret = asked[-1] if asked else {}
            if secret.get("CKA_SENSITIVE") != "True" or secret.get("CKA_EXTRACTABLE") != "False":
                blame("makes a key that can be read")
        elif name in ("C_CopyObject", "C_DeriveKey"):
            blame("is never used here")
    for name in needed:
        if not seen.get(name):
            wrong.append(f"the log has no {name} that went well: too little to judge by")
    return wrong, seen


def main():
    wrong, seen = judge(sys.argv[1], sys.argv[2:] or CALLS)
    for line in wrong[:20]:
        print(f"not ok  {line}", file=sys.stderr)
    if wrong:
        print(f"{len(wrong)} of {sum(seen.values())} calls are wrong", file=sys.stderr)
        sys.exit(1)
    print(f"{sum(seen.values())} calls, {seen['C_GetAttributeValue']} of them C_GetAttributeValue, "
          f"{seen['C_GenerateKey'] + seen['C_GenerateKeyPair']} keys made: no value was asked for")


main()
