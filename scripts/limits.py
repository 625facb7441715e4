"""Rate limits on two replicas: see scripts/limits-test.

    limits.py ACTION --urls URL,URL --token TOKEN …

Prints what it found as one line of JSON.
"""
import argparse
import http.client
import json
import sys
import threading
import time
from collections import Counter
from urllib.parse import urlsplit


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--urls", required=True)
    parser.add_argument("--token", required=True)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--path", default="/v1/auth/whoami")
    options = parser.parse_args()
    stop, lock, statuses, slowest = threading.Event(), threading.Lock(), Counter(), [0.0]

    def work(url):
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        while not stop.is_set():
            began = time.monotonic()
            connection.request("GET", options.path, headers={"Authorization": f"Bearer {options.token}"})
            answer = connection.getresponse()
            body = answer.read()
            with lock:
                statuses[answer.status] += 1
                slowest[0] = max(slowest[0], time.monotonic() - began)
            if answer.status not in (200, 429):
                sys.exit(f"{answer.status}: {body}")
            # Those that were refused shall not be all there is.
            time.sleep(0.005)

    threads = [threading.Thread(target=work, args=(url,), daemon=True) for url in options.urls.split(",") for _ in range(2)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    time.sleep(options.seconds)
    stop.set()
    for thread in threads:
        thread.join(60)
    took = time.monotonic() - began
    print(json.dumps({"seconds": round(took, 2), "allowed": statuses[200], "refused": statuses[429], "slowest": round(slowest[0], 3)}))


if __name__ == "__main__":
    main()
