"""How the checks of a release tell what they have found."""

failures = 0


def check(name, offences):
    """One line where there are no offences, and one more for each."""
    global failures
    failures += bool(offences)
    print(f"{'FAIL' if offences else 'ok   '} {name}", flush=True)
    for offence in offences:
        print(f"      {offence}")


def exit_code():
    return 1 if failures else 0
