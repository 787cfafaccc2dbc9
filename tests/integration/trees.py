"""A task that grows a tree of processes, which is hard to cut down; its process ids stand in a file."""

from harness import alive, eventually, processes

# To be put into the definition of a task, below its other keys. The file is the payload's.
SCRIPT = r"""
    env: {FILE: "{{ payload.file }}"}
    script: |
      note() { echo "$1" >> "$FILE"; }
      note $$
      sleep 60 & note $!                                         # in the group
      setsid sleep 60 & note $!                                  # a session of its own
      sh -c 'trap "" TERM INT HUP; while :; do sleep 1; done' & note $!  # deaf
      setsid sh -c 'trap "" TERM; while :; do sleep 1; done' & note $!   # both
      (sleep 60 & echo $! >> "$FILE")                            # an orphan
      note ready
      trap '' TERM
      while :; do sleep 1; done
"""
PROCESSES = 6


def words(path):
    return path.read_text().split() if path.exists() else []


def await_grown(path):
    """The ids of all its processes, once all are there."""
    eventually(lambda: "ready" in words(path), "the tree has grown")
    pids = noted(path)
    assert len(pids) == PROCESSES and all(map(alive, pids))
    return pids


def noted(path):
    return [int(word) for word in words(path) if word != "ready"]


def await_gone(daemon, pids):
    """Neither these nor any other process of the daemon's tasks is there any more."""
    eventually(lambda: not any(map(alive, pids)), f"none of {pids} alive")
    eventually(lambda: not processes(f"DIRECTOR_NODE={daemon.node}"), "nothing of the node's tasks alive")
