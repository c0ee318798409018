#!/usr/bin/env python3
"""Stands in for gcloud: writes its argv down as a JSON line, and plays scripted answers.

The folder in FAKE_GCLOUD holds `script.json`: a list of [words, answers, verb]. The first entry
whose words all occur in the command, and whose verb (if any) was called before, gives its next
answer, the last one again and again. An answer is [exit code, standard output, standard error].
Commands that no entry names succeed silently. Files are replaced whole: a caller may be killed.
"""

import fcntl
import json
import os
import sys

here = os.environ["FAKE_GCLOUD"]
with open(os.path.join(here, "lock"), "w") as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)
    with open(os.path.join(here, "calls"), "a+") as f:
        f.write(json.dumps(sys.argv[1:]) + "\n")
        f.seek(0)
        called = {word for line in f for word in json.loads(line)}
    with open(os.path.join(here, "script.json")) as f:
        script = json.load(f)
    answer = [0, "", ""]
    for words, answers, verb in script:
        if verb in {"", *called} and all(any(w in arg for arg in sys.argv[1:]) for w in words):
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            break
    with open(os.path.join(here, "script.new"), "w") as f:
        json.dump(script, f)
    os.replace(os.path.join(here, "script.new"), os.path.join(here, "script.json"))
sys.stdout.write(answer[1])
sys.stderr.write(answer[2])
sys.exit(answer[0])
