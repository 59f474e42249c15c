"""Locks per second by ZooKeeper's recipe: `kazoo_locks.py HOSTS CLIENTS SECONDS`.

Each client is a process with a session of its own, and takes and gives up a lock of its own.
"""
import logging, multiprocessing, sys, time

from kazoo.client import KazooClient


def work(hosts, number, seconds, ready, begin, counts):
    logging.disable(logging.CRITICAL)
    client = KazooClient(hosts=hosts, timeout=10)
    client.start(timeout=30)
    lock = client.Lock(f"/lock/{number}", "me")
    with lock:
        pass
    ready.release()
    begin.wait()
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        with lock:
            count += 1
    counts.put(count)
    client.stop()


def main():
    hosts, clients, seconds = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    ready, begin, counts = multiprocessing.Semaphore(0), multiprocessing.Event(), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=(hosts, n, seconds, ready, begin, counts))
               for n in range(clients)]
    for worker in workers:
        worker.start()
    for _ in workers:
        if not ready.acquire(timeout=60):
            sys.exit("a client does not come up")
    begin.set()
    total = sum(counts.get(timeout=seconds + 60) for _ in workers)
    for worker in workers:
        worker.join(10)
    print(total // seconds)


main()
