"""Trains in a child process, by fork and by spawn, and not itself."""

import multiprocessing

from plain import train

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        child = multiprocessing.get_context(method).Process(target=train)
        child.start()
        child.join()
        print(method, child.exitcode)
