"""A PostgreSQL server of the tests' own, on loopback, with a password."""

import os
import signal
import subprocess
import time
from pathlib import Path

from support.processes import free_port

PASSWORD = "pg-secret"


class PostgresServer:
    """A server that can be stopped and started again; a context manager."""

    def __init__(self, folder):
        self.folder = folder
        self.programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1]
        self.port = free_port()
        self.address = f"postgresql://owner@127.0.0.1:{self.port}/postgres"
        self.as_user = {}
        (folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:  # it refuses to run as root
            import pwd

            user = pwd.getpwnam("postgres")
            self.as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
            for path in (folder, *folder.parents):
                if path == Path("/tmp"):
                    break
                os.chmod(path, 0o711)
            os.chown(folder, user.pw_uid, user.pw_gid)
            os.chown(folder / "password", user.pw_uid, user.pw_gid)

    def __enter__(self):
        subprocess.run(
            [self.programs / "initdb", "-D", "data", "-U", "owner", "-A", "scram-sha-256", "--pwfile", "password"],
            check=True, stdout=subprocess.DEVNULL, cwd=self.folder, **self.as_user,
        )  # fmt: skip
        self.start()
        import psycopg

        for _ in range(100):
            try:
                psycopg.connect(self.address, password=PASSWORD).close()
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        return self

    def start(self):
        self.process = subprocess.Popen(
            [self.programs / "postgres", "-D", "data", "-p", str(self.port), "-h", "127.0.0.1", "-k", self.folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder, **self.as_user,
        )  # fmt: skip

    def stop(self):
        """Stop the server at once; who is connected loses the connection."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(20)

    def __exit__(self, *_):
        self.stop()
